// How fast a served function is, side by side with what it is compared with, in one run:
//
//   npm run bench:served [-- --boots 0] [--json]
//
// Needs a C compiler (cc) for the two small programs of this folder, and for the boots what `sdxi vm` fetches.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openBus } from '../dist/bus/index.js';
import { SdxiDriver } from '../dist/driver/index.js';
import { AddressSpace, allocateRegion, Window } from '../dist/memory/index.js';
import { connectTo, Poll, Poller } from '../dist/native/socket.js';
import { serve } from '../dist/serve/index.js';
import { Command, Connection, encodeVersion, Received } from '../dist/vfio-user/index.js';
import { bootGuest } from '../dist/vm/index.js';

const { values: options } = parseArgs({
  options: { boots: { type: 'string', default: '5' }, rounds: { type: 'string', default: '7' }, json: { type: 'boolean', default: false } },
});
const ROUNDS = Number(options.rounds);
const here = fileURLToPath(new URL('.', import.meta.url));
const BIN = join(here, '..', 'bin', 'sdxi.js');
const folder = mkdtempSync(join(tmpdir(), 'sdxi-bench-'));

/** @param {number[]} values */
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
/** @type {{ what: string, value: number, unit: string, reference?: number, ratio?: number, goal: string, ok: boolean }[]} */
const rows = [];

/** @param {string} name */
function compile(name) {
  const out = join(folder, name);
  execFileSync('cc', ['-O2', '-o', out, join(here, `${name}.c`)]);
  return out;
}

/** `sdxi serve` as a process of its own. @param {string[]} args */
async function server(...args) {
  const socket = join(folder, `s${Math.random().toString(36).slice(2)}`);
  const child = spawn(process.execPath, [BIN, 'serve', '--socket', socket, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(child.stdout, 'data');
  return {
    socket,
    async stop() {
      const ended = once(child, 'exit');
      child.kill();
      await ended;
    },
  };
}

async function registerReads() {
  const [echo, ping] = [compile('echo'), compile('ping')];
  const own = await server();
  const read = (/** @type {string[]} */ args) => {
    const { stdout, status } = spawnSync(ping, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error('ping failed');
    return Number(stdout.split(' ')[0]);
  };
  const [ours, theirs] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
  for (let round = 0; round < ROUNDS; round++) {
    const path = join(folder, `e${round}`);
    const child = spawn(echo, [path], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    theirs.push(read([path, '20000']));
    child.kill();
    ours.push(read([own.socket, '20000', 'version']));
  }
  await own.stop();
  const [value, reference] = [median(ours) / 1000, median(theirs) / 1000];
  rows.push({
    what: 'register read, round trip; a C program that echoes',
    value,
    unit: 'µs',
    reference,
    ratio: value / reference,
    goal: '≤ 1.3 ×',
    ok: value <= 1.3 * reference,
  });
}

async function iterations() {
  const own = await server();
  const rates = [];
  for (let round = 0; round < Math.ceil(ROUNDS / 2); round++) {
    const args = [BIN, 'test', `vfio-user:${own.socket}`, '--iterations', '20000', '--buf-size', '4k', '--json'];
    const report = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
    if (!report.ok) throw new Error('sdxi test failed');
    rates.push(report.tests / report.seconds);
  }
  await own.stop();
  const value = median(rates);
  rows.push({ what: 'sdxi test of 4 KiB over vfio-user:, whole iterations', value, unit: '1/s', goal: '≥ 10,000', ok: value >= 10_000 });
}

/**
 * Bytes a second of copies of one size, 32 in flight, through a function that is opened for them: where its memory lies is worth up to a
 * sixth of the speed, so each round has memory of its own.
 * @param {string} uri @param {number} bytes
 */
async function copyRate(uri, bytes) {
  const driver = await SdxiDriver.open(await openBus(uri));
  const count = Math.max(2, Math.min(32, (64 << 20) / bytes));
  const [source, target] = [driver.allocate(bytes * count, 4096), driver.allocate(bytes * count, 4096)];
  source.bytes.fill(1);
  target.bytes.fill(2);
  const context = await driver.createContext();
  const copyFor = async (/** @type {number} */ ms) => {
    const from = performance.now();
    let moved = 0;
    while (performance.now() - from < ms) {
      const batch = context.begin(count);
      for (let i = 0; i < count; i++) batch.copy(bytes, source.iova + i * bytes, target.iova + i * bytes);
      await batch.submit().done;
      moved += count * bytes;
    }
    return (moved / (performance.now() - from)) * 1000;
  };
  await copyFor(50);
  const rate = await copyFor(200);
  await driver.close();
  return rate;
}

async function copies() {
  const own = await server();
  for (const bytes of [256 << 10, 1 << 20, 4 << 20]) {
    const [ours, theirs] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
    for (let round = 0; round < 2 * ROUNDS; round++) {
      ours.push(await copyRate(`vfio-user:${own.socket}`, bytes));
      theirs.push(await copyRate('embedded:', bytes));
    }
    const [value, reference] = [median(ours) / 1e9, median(theirs) / 1e9];
    rows.push({
      what: `copies of ${bytes >> 10} KiB over vfio-user:; embedded:`,
      value,
      unit: 'GB/s',
      reference,
      ratio: value / reference,
      goal: '≥ 0.9 ×',
      ok: value >= 0.9 * reference,
    });
  }
  await own.stop();
}

/** Pairs of DMA_MAP and DMA_UNMAP of pages of one file, as QEMU pipelines them with a guest IOMMU. */
async function mapsOverSocket() {
  const own = await server();
  const connection = new Connection(connectTo(own.socket));
  const poller = new Poller(1);
  const receive = () => {
    while (connection.receive() !== Received.MESSAGE) {
      poller.set([connection.fd, Poll.IN]);
      poller.wait(1000);
    }
    if ((connection.flags & 0x20) !== 0) throw new Error(`refused with errno ${connection.error}`);
  };
  const version = encodeVersion(0, 0, { max_msg_fds: 16 });
  connection.out.bytes(0, version);
  connection.send(1, Command.VERSION, version.length, 0);
  receive();
  const region = allocateRegion(64 << 20);
  const fd = region.file?.fd ?? -1;
  const map = (/** @type {number} */ page) => {
    connection.out.u32(0, 32);
    connection.out.u32(4, 3);
    connection.out.u64(8, page * 4096);
    connection.out.u64(16, 2 ** 32 + page * 4096);
    connection.out.u64(24, 4096);
    return connection.send(1, Command.DMA_MAP, 32, 0, 0, [fd]);
  };
  const unmap = (/** @type {number} */ page) => {
    connection.out.u32(0, 24);
    connection.out.u32(4, 0);
    connection.out.u64(8, 2 ** 32 + page * 4096);
    connection.out.u64(16, 4096);
    return connection.send(1, Command.DMA_UNMAP, 24, 0);
  };
  const PAGES = 32;
  const rates = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const from = performance.now();
    const batches = 200;
    for (let batch = 0; batch < batches; batch++) {
      for (let page = 0; page < PAGES; page++) map(page);
      for (let page = 0; page < PAGES; page++) unmap(page);
      for (let reply = 0; reply < 2 * PAGES; reply++) receive();
    }
    if (round > 0) rates.push((batches * PAGES * 1000) / (performance.now() - from));
  }
  connection.close();
  await own.stop();
  const value = median(rates);
  rows.push({
    what: 'DMA_MAP and DMA_UNMAP of a page, pipelined over the socket',
    value,
    unit: 'pairs/s',
    goal: '≥ 20,000',
    ok: value >= 20_000,
  });
}

function mapsInSpace() {
  const space = new AddressSpace();
  const region = allocateRegion(256 << 20);
  const window = region.window ?? new Window(new ArrayBuffer(0));
  const PAGES = 65_535;
  const rates = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const from = performance.now();
    for (let page = 0; page < PAGES; page++) space.map(2 ** 32 + page * 4096, 4096, 3, window, page * 4096);
    for (let page = 0; page < PAGES; page++) space.unmap(2 ** 32 + page * 4096, 4096);
    if (round > 0) rates.push((PAGES * 1000) / (performance.now() - from));
  }
  const value = median(rates);
  rows.push({
    what: 'map and unmap of 65,535 pages in the address space',
    value,
    unit: 'pairs/s',
    goal: '≥ 100,000',
    ok: value >= 100_000,
  });
}

async function boots() {
  const count = Number(options.boots);
  if (count === 0) return;
  const own = await serve({ socket: join(folder, 'boot') });
  const [withOne, without] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
  const boot = async (/** @type {string[]} */ sockets) => {
    const from = performance.now();
    const guest = await bootGuest({ sockets });
    const time = performance.now() - from;
    await guest.close();
    return time;
  };
  await boot([]); // whatever has to be fetched or built is
  for (let i = 0; i < count; i++) {
    // In turn, who goes first as well: what else the machine does rises and falls.
    const order = [() => boot([]).then((time) => without.push(time)), () => boot([...own.sockets]).then((time) => withOne.push(time))];
    for (const next of i % 2 === 0 ? order : order.reverse()) await next();
  }
  await own.close();
  const [value, reference] = [median(withOne) / 1000, median(without) / 1000];
  rows.push({
    what: 'boot of a guest with the function; without',
    value,
    unit: 's',
    reference,
    ratio: value / reference,
    goal: '≤ 1.1 ×',
    ok: value <= 1.1 * reference,
  });
}

try {
  await registerReads();
  await iterations();
  await copies();
  await mapsOverSocket();
  mapsInSpace();
  await boots();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (options.json) console.log(JSON.stringify({ machine: cpus()[0]?.model, node: process.version, rows }, undefined, 2));
else {
  console.log(`${cpus()[0]?.model}, ${cpus().length} processors, Node ${process.version}; medians\n`);
  const text = (/** @type {number} */ value) => (value >= 1000 ? Math.round(value).toLocaleString('en') : value.toFixed(2));
  for (const { what, value, unit, reference, ratio, goal, ok } of rows) {
    const beside = reference === undefined ? '' : ` beside ${text(reference)}, ratio ${ratio?.toFixed(2)}`;
    console.log(`${ok ? 'ok  ' : 'LESS'} ${what}: ${text(value)} ${unit}${beside} (goal ${goal})`);
  }
}
