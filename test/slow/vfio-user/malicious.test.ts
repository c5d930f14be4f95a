import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VfioUserBus } from '../../../src/bus/index.js';
import type { SdxiError } from '../../../src/errors.js';
import { Access } from '../../../src/memory/address-space.js';
import { allocateRegion } from '../../../src/memory/region.js';
import { foreign } from '../../../src/native/koffi.js';
import { closeFd, createMemfd } from '../../../src/native/libc.js';
import { connectTo, Errno, listenAt, SocketBuffer, socketPair } from '../../../src/native/socket.js';
import { CAP_SPARSE_MMAP, RegionFlag } from '../../../src/vfio-user/messages.js';
import { startServer } from '../../serve/rig.js';

const GRANTED = 0x10000;
const F_ADD_SEALS = 1033;
const F_SEAL_WRITE = 8;
const libc = foreign<{ fcntl(fd: number, command: number, argument: number): number }>({ fcntl: 'int fcntl(int, int, int)' });

const descriptors = () => readdirSync('/proc/self/fd').length;
const turn = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

let folder: string;
let path: string;
let listener: number;
const over = new Int32Array(new SharedArrayBuffer(4));
let server: Promise<unknown> | undefined;
let bus: VfioUserBus | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sdxi-malicious-'));
  path = join(folder, 's');
  listener = listenAt(path);
  Atomics.store(over, 0, 0);
});

afterEach(async () => {
  Atomics.store(over, 0, 1);
  Atomics.notify(over, 0);
  await bus?.close();
  await server;
  bus = undefined;
  server = undefined;
  closeFd(listener);
  rmSync(folder, { recursive: true, force: true });
});

interface Doorbells {
  body: Uint8Array;
  fds: number[];
}

/** A bus of a server that does something when it is provoked: by a register read or a doorbell. */
async function open(how: string, options = 'registerTimeoutMs=500', doorbells?: Doorbells): Promise<VfioUserBus> {
  const thread = new Worker(new URL('./malicious.mjs', import.meta.url), { workerData: { listener, how, over: over.buffer, doorbells } });
  server = new Promise((resolve) => thread.once('exit', resolve));
  thread.on('error', (error) => console.error(error));
  bus = await VfioUserBus.open(`vfio-user:${path}?${options}`);
  return bus;
}

function grant(of: VfioUserBus, byteLength = 4096): Uint8Array {
  const region = allocateRegion(byteLength);
  of.map({ iova: GRANTED, region, access: Access.READ_WRITE });
  return region.bytes;
}

function reasonOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return String((error as SdxiError).fields.reason ?? error);
  }
  return 'nothing was thrown';
}

describe('a server that asks', () => {
  it('and never answers: what was asked of it ends in time', async () => {
    const lost = await open('flood');
    expect(reasonOf(() => lost.readRegister(0))).toMatch(/REGION_READ within 500 ms$/);
  });

  it('for more than it reads: no more than a few answers wait for it', async () => {
    const lost = await open('greed', 'registerTimeoutMs=500&shareMemory=0');
    grant(lost, 1 << 20);
    const before = process.memoryUsage().arrayBuffers;
    expect(reasonOf(() => lost.readRegister(0))).toBe('it did not read REGION_READ within 500 ms');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 << 20);
  });

  it('all the time does not keep the user from the socket', async () => {
    const pestered = await open('pester', 'shareMemory=0');
    grant(pestered);
    for (let i = 0; i < 10; i++) {
      expect(pestered.readRegister(0)).toBe(0n);
      await turn(2);
    }
  });

  it('in two pieces, into a queue of doorbells: whoever takes the first takes the second', async () => {
    const asked = await open('halves', 'shareMemory=0');
    grant(asked);
    for (let i = 0; i < 400; i++) asked.writeDoorbell(0, i);
    await turn(1000);
    expect(asked.readRegister(0)).toBe(0n);
  });
});

describe('a server that does not listen', () => {
  it('to doorbells: ringing them ends in time', async () => {
    const lost = await open('deaf');
    const ring = () => {
      for (let i = 0; i < 10_000; i++) lost.writeDoorbell(0, i);
    };
    expect(reasonOf(ring)).toBe('it did not read REGION_WRITE within 500 ms');
  });

  it('for a moment: a message with a descriptor waits until there is room for it', async () => {
    // How many doorbells fill a socket.
    const [end, other] = socketPair();
    const buffer = new SocketBuffer(40);
    let room = 0;
    while (buffer.send(end, 0, 40) === 40) room++;
    for (const fd of [end, other]) closeFd(fd);
    const full = await open('nap', '');
    full.writeDoorbell(0, 0);
    await turn(100);
    for (let i = 0; i < room; i++) full.writeDoorbell(0, i);
    grant(full);
  });

  it('when it is opened: the event loop is free, and the error says what to do', async () => {
    let ticks = 0;
    const clock = setInterval(() => ticks++, 10);
    const before = descriptors();
    const opening = VfioUserBus.open(`vfio-user:${path}?openTimeoutMs=300`);
    await expect(opening).rejects.toMatchObject({
      code: 'ERR_SDXI_BUS_LOST',
      message: expect.stringContaining('no answer to VERSION within'),
      hint: expect.stringContaining('one client at a time'),
    });
    clearInterval(clock);
    expect(ticks).toBeGreaterThan(5);
    expect(descriptors()).toBeLessThanOrEqual(before);
  });

  it('and has too many clients waiting already: that is said at once', async () => {
    const waiting: number[] = [];
    for (let fd = connectTo(path); fd >= 0; fd = connectTo(path)) waiting.push(fd);
    expect(connectTo(path)).toBe(-Errno.EAGAIN);
    await expect(VfioUserBus.open(`vfio-user:${path}`)).rejects.toMatchObject({
      code: 'ERR_SDXI_SYSTEM',
      message: expect.stringContaining('too many clients wait'),
    });
    for (const fd of waiting) closeFd(fd);
  });

  it('any more when the bus is closed: it closes all the same', { timeout: 15_000 }, async () => {
    const left = await open('end');
    grant(left);
    left.writeDoorbell(0, 1);
    await left.close();
  });
});

describe('interrupts without end', () => {
  it('leave the event loop to its user', async () => {
    const stormy = await open('storm', 'registerTimeoutMs=5000');
    stormy.writeDoorbell(0, 1);
    await stormy.wait(() => stormy.interruptCount(1) > 0, { what: 'an interrupt', timeoutMs: 10_000, vector: 1 });
    let ticks = 0;
    const clock = setInterval(() => ticks++, 10);
    const waiting = stormy.wait(() => false, { what: 'nothing', timeoutMs: 800, vector: 1 });
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_SDXI_TIMEOUT' });
    clearInterval(clock);
    expect(ticks).toBeGreaterThan(10);
  });
});

/** A reply to DEVICE_GET_REGION_INFO of the doorbells. */
function doorbells(
  fds: number[],
  areas: readonly (readonly [offset: bigint, size: bigint])[],
  { size = 0x8000n, at = 0n } = {},
): Doorbells {
  const body = Buffer.alloc(32 + 16 + 16 * areas.length);
  const flags = RegionFlag.READ | RegionFlag.WRITE | RegionFlag.MMAP | RegionFlag.CAPS;
  for (const [i, value] of [body.length, flags, 2, 32].entries()) body.writeUInt32LE(value, 4 * i);
  body.writeBigUInt64LE(size, 16);
  body.writeBigUInt64LE(at, 24);
  body.writeUInt16LE(CAP_SPARSE_MMAP, 32);
  body.writeUInt32LE(areas.length, 40);
  for (const [i, [offset, length]] of areas.entries()) {
    body.writeBigUInt64LE(offset, 48 + 16 * i);
    body.writeBigUInt64LE(length, 56 + 16 * i);
  }
  return { body, fds };
}

const memfd = (byteLength = 0x8000) => createMemfd('doorbells', byteLength);
function sealed(): number {
  const fd = memfd();
  expect(libc.fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)).toBe(0);
  return fd;
}
const ALL = [[0n, 0x8000n]] as const;
const mappings = () => readFileSync('/proc/self/maps', 'utf8').split('\n').length;

describe('doorbells that cannot be mapped are written by messages', () => {
  it.each<[what: string, fd: () => number, areas: readonly (readonly [bigint, bigint])[], at: bigint]>([
    ['a file that is too small', () => memfd(0x1000), ALL, 0n],
    ['a file that ends before the area', memfd, ALL, 0x1000n],
    ['an offset at the end of all numbers', memfd, ALL, 0x1f_ffff_ffff_f000n],
    ['an area that starts in a page', memfd, [[8n, 0x1000n]], 0n],
    ['a file that nobody can write any more', sealed, ALL, 0n],
    ['a file that can be made shorter', () => openSync(join(folder, 'f'), 'w+'), ALL, 0n],
    ['no file', () => openSync('/dev/null', 'r+'), ALL, 0n],
    ['a folder', () => openSync(folder, 'r'), ALL, 0n],
    ['the socket itself', () => listener, ALL, 0n],
  ])('%s', async (_, make, areas, at) => {
    const fd = make();
    try {
      const opened = await open('well', '', doorbells([fd], areas, { at }));
      expect(opened.details.doorbells).toBe('posted messages');
      opened.writeDoorbell(0, 1);
      expect(opened.readRegister(0)).toBe(0n);
    } finally {
      if (fd !== listener) closeSync(fd);
    }
  });

  it.each<[what: string, areas: readonly (readonly [bigint, bigint])[], size?: bigint]>([
    ['an area outside of its region', [[0x8000n, 0x1000n]]],
    ['an area that wraps around', [[0xffff_ffff_ffff_f000n, 0x2000n]]],
    ['an area of nothing', [[0n, 0n]]],
    ['more areas than were asked for', new Array(1000).fill([0n, 0x1000n])],
    ['a region without end', ALL, 0xffff_ffff_ffff_fff8n],
  ])('%s: the bus is lost', async (_, areas, size = 0x8000n) => {
    const fd = memfd();
    const before = mappings();
    await expect(open('well', '', doorbells([fd, fd, fd], areas, { size }))).rejects.toMatchObject({ code: 'ERR_SDXI_BUS_LOST' });
    closeFd(fd);
    expect(mappings()).toBeLessThan(before + 100);
  });

  it('mapped ones are not written after the end', async () => {
    const rig = await startServer({ mapDoorbells: true });
    try {
      const closed = await VfioUserBus.open(`vfio-user:${rig.server.sockets[0]}`);
      expect(closed.details.doorbells).toBe('mapped');
      await closed.close();
      for (let at = 0; at < closed.doorbellBytes; at += 4096) {
        expect(() => closed.writeDoorbell(at, 1)).toThrow(expect.objectContaining({ code: 'ERR_SDXI_CLOSED' }));
      }
    } finally {
      await rig.close();
    }
  });
});
