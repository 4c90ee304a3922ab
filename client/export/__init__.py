"""Painting outside of easel: a head, a backbone and all between them as one ONNX file."""
