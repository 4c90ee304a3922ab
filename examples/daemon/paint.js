// Paint a photo with the daemon of this user: node paint.js PHOTO HEAD OUT, or with a mix of heads:
// node paint.js PHOTO oil=0.7,sketch=0.3 OUT
//
// Start the daemon first (easel serve), and once: npm install. The stub is made from studio.proto when this starts;
// nothing is generated beforehand. Ctrl-C cancels the call, and the daemon drops its work.
'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const CHUNK = 256 * 1024;
const PROTO = process.env.EASEL_PROTO || path.join(__dirname, '..', '..', 'protos', 'studio.proto');

function home() {
  const data = process.env.XDG_DATA_HOME || path.join(os.homedir(), '.local', 'share');
  return process.env.EASEL_HOME || path.join(data, 'easel');
}

function connect() {
  const definition = protoLoader.loadSync(PROTO, {keepCase: true, longs: Number, enums: String, oneofs: true});
  const studio = grpc.loadPackageDefinition(definition).easel.studio.v1;
  const record = JSON.parse(fs.readFileSync(path.join(home(), 'daemon', 'daemon.json'), 'utf8'));
  const metadata = new grpc.Metadata();
  metadata.set('easel-client', `node-${process.pid}`);
  if (record.token) metadata.set('authorization', `Bearer ${record.token}`);
  const options = {'grpc.enable_http_proxy': 0}; // straight to this computer, whatever the environment says
  return {painter: new studio.Painter(record.address, grpc.credentials.createInsecure(), options), metadata};
}

function stylize({painter, metadata}, photo, start, onProgress) {
  return new Promise((resolve, reject) => {
    const call = painter.Stylize(metadata);
    const chunks = [];
    let result = null;
    process.once('SIGINT', () => call.cancel());
    call.on('data', (reply) => {
      if (reply.part === 'progress') onProgress(reply.progress);
      else if (reply.part === 'result') result = reply.result;
      else chunks.push(reply.chunk);
    });
    call.on('error', reject);
    call.on('end', () => { if (result) resolve({...result, data: Buffer.concat(chunks)}); });
    call.write({start: {...start, size_bytes: photo.length}});
    for (let begin = 0; begin < photo.length; begin += CHUNK) {
      call.write({chunk: photo.subarray(begin, begin + CHUNK)});
    }
    call.end();
  });
}

/** "oil" is one head, "oil=0.7,sketch=0.3" a mix. */
function style(text) {
  if (!text.includes('=')) return {head: text};
  return {mix: Object.fromEntries(text.split(',').map((part) => {
    const [name, weight] = part.split('=');
    return [name, Number(weight)];
  }))};
}

async function main([photo, head, out]) {
  if (!out) throw new Error('usage: node paint.js PHOTO HEAD OUT');
  const connection = connect();
  try {
    const start = {...style(head), format: path.extname(out).slice(1)};
    const painting = await stylize(connection, fs.readFileSync(photo), start, (progress) => {
      console.error(`${progress.stage.toLowerCase()} ${Math.round(progress.fraction * 100)}%`);
    });
    fs.writeFileSync(out, painting.data);
    console.log(`${out}  ${painting.width} x ${painting.height}, ${painting.seconds.toFixed(1)} s`);
  } finally {
    connection.painter.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`error: ${error.details || error.message}`);
  process.exitCode = 1;
});
