// JSON, promises, workers, zlib and HTTP to itself: what a server of node's does, with results that
// are the same in every run.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const http = require('http');
const zlib = require('zlib');

const digest = (data) => crypto.createHash('sha256').update(data).digest('hex').slice(0, 16);

function json(rounds) {
    let value = { list: [], text: 'x' };
    for (let i = 0; i < rounds; i++) {
        value.list.push({ i, s: 'é'.repeat(i % 17), n: i / 3 });
        if (i % 50 === 0) value = JSON.parse(JSON.stringify(value));
    }
    return digest(JSON.stringify(value));
}

async function promises(depth) {
    if (depth === 0) throw new RangeError('bottom');
    try {
        await new Promise((resolve) => setImmediate(resolve));
        await promises(depth - 1);
    } catch (error) {
        if (depth % 2) throw error;
        throw new RangeError(error.message + depth);
    }
}

function overflow() {
    return overflow() + 1;
}

function deep() {
    try {
        overflow();
    } catch (error) {
        return error instanceof RangeError;
    }
}

function fetch(port, path) {
    return new Promise((resolve, reject) => {
        const request = http.get({ host: '127.0.0.1', port, path, agent: false }, (response) => {
            const parts = [];
            response.on('data', (part) => parts.push(part));
            response.on('end', () => resolve(Buffer.concat(parts)));
        });
        request.on('error', reject);
    });
}

function serve() {
    return new Promise((resolve, reject) => {
        const server = http.createServer((request, response) => {
            response.end(zlib.gzipSync(request.url.repeat(500)));
        });
        server.on('error', reject);
        server.listen(0, '127.0.0.1', () => resolve(server));
    });
}

async function main() {
    console.log('json', json(2000));
    console.log('promises', await promises(40).catch((error) => error.message.length));
    console.log('overflow', deep());
    const text = Buffer.from('all work and no play '.repeat(5000));
    console.log('zlib', digest(zlib.inflateSync(zlib.deflateSync(text))));
    const workers = [1, 2, 3, 4].map((n) => new Promise((resolve, reject) => {
        const worker = new Worker(__filename, { workerData: 500 * n });
        worker.on('message', resolve);
        worker.on('error', reject);
    }));
    console.log('workers', (await Promise.all(workers)).join(' '));
    const server = await serve();
    const { port } = server.address();
    const answers = [];
    for (let i = 0; i < 50; i++) answers.push(fetch(port, '/' + i));
    const bodies = (await Promise.all(answers)).map((body) => zlib.gunzipSync(body));
    console.log('http', digest(Buffer.concat(bodies)));
    server.close();
    // As JSON sees it: no addresses, no line numbers of node's own.
    const trace = new Error('here').stack.split('\n')[1].trim().split(' ')[1];
    console.log('trace', trace);
}

if (isMainThread) main();
else parentPort.postMessage(json(workerData));
