import { fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { describe, expect, it, onTestFinished } from 'vitest';
import { allocateRegion, openRegion, PAGE_BYTES, type PinnableMemory, pinRegion, type Region } from '../../src/memory/region.js';

/** 8 bytes that may become 16; the option is newer than the library types in use. */
function resizable<T>(kind: new (byteLength: number) => T): T {
  return Reflect.construct(kind, [8, { maxByteLength: 16 }]) as T;
}

/** Node 22 and later. */
type Transferring = { transfer?: () => ArrayBuffer; transferToFixedLength?: () => ArrayBuffer };

/** Tries to take a buffer away by a structured clone or a message; how it is refused differs between Node versions. */
function tryToTransfer(buffer: ArrayBuffer): void {
  const { port1, port2 } = new MessageChannel();
  try {
    structuredClone(buffer, { transfer: [buffer] });
  } catch (error) {
    expect((error as Error).name).toBe('DataCloneError');
  }
  try {
    port1.postMessage(buffer, [buffer]);
    receiveMessageOnPort(port2);
  } catch (error) {
    expect((error as Error).name).toBe('DataCloneError');
  }
  port1.close();
}

/** Writes through the region's window and reads through its bytes, and the other way round. */
function expectSameMemory(region: Region): void {
  const last = region.byteLength - 1;
  region.window.u8[region.offset] = 0x11;
  region.bytes[last] = 0x22;
  expect([region.bytes[0], region.window.u8[region.offset + last]]).toEqual([0x11, 0x22]);
}

describe('allocated memory', () => {
  it('is zeroed, whole pages, on a page boundary, with a file behind it', () => {
    const region = allocateRegion(5000);
    expect([region.byteLength, region.address % PAGE_BYTES, region.offset, region.attached]).toEqual([8192, 0, 0, true]);
    expect(region.bytes.every((byte) => byte === 0)).toBe(true);
    expect(region.file).toEqual({ fd: expect.any(Number), offset: 0 });
    expectSameMemory(region);
  });

  it.each([0, -1, 0.5, Number.NaN, 2 ** 31 + 1])('of %d bytes is refused', (length) => {
    expect(() => allocateRegion(length)).toThrow(expect.objectContaining({ code: 'ERR_SDXI_ARGUMENT', hint: expect.any(String) }));
  });

  it('of 2 GiB, the most one buffer holds, can be written at both ends', () => {
    const region = allocateRegion(2 ** 31);
    expectSameMemory(region);
  });

  it('in huge pages starts on one; where the system has set none aside, the error says how', () => {
    let region: Region;
    try {
      region = allocateRegion(1, 'huge', { hugePages: true });
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_SDXI_SYSTEM', hint: expect.stringContaining('vm.nr_hugepages=1') });
      return;
    }
    expect([region.byteLength, region.address % 2 ** 21, region.bytes[0]]).toEqual([2 ** 21, 0, 0]);
  });

  it('is immune to transfer(), transferToFixedLength(), structuredClone and postMessage', () => {
    const region = allocateRegion(4096);
    region.bytes[5] = 0x55;
    const buffer = region.bytes.buffer as ArrayBuffer & Transferring;
    expect(() => buffer.transfer?.()).toThrow(expect.objectContaining({ code: 'ERR_SDXI_UNSUPPORTED', hint: expect.any(String) }));
    expect(() => buffer.transferToFixedLength?.()).toThrow(expect.objectContaining({ code: 'ERR_SDXI_UNSUPPORTED' }));
    tryToTransfer(buffer);
    expect([buffer.byteLength, region.bytes[5]]).toEqual([4096, 0x55]);
  });
});

describe('registered memory', () => {
  it.each<[string, () => { memory: PinnableMemory; bytes: () => Uint8Array }]>([
    ['a Buffer', () => ordinary(Buffer.alloc(100))],
    ['a Buffer out of the pool', () => ordinary(Buffer.from('a few bytes'))],
    ['a Uint8Array in the middle of its buffer', () => ordinary(new Uint8Array(100).subarray(13, 50))],
    ['a Float64Array', () => ordinary(new Float64Array(9).subarray(2))],
    ['a DataView', () => ordinary(new DataView(new ArrayBuffer(40), 3, 20))],
    ['an ArrayBuffer', () => ordinary(new ArrayBuffer(33))],
    ['a SharedArrayBuffer', () => ordinary(new SharedArrayBuffer(33))],
    ['a view of a SharedArrayBuffer', () => ordinary(new Uint8Array(new SharedArrayBuffer(33), 1))],
    ['a WebAssembly.Memory', () => wasm(new WebAssembly.Memory({ initial: 1 }))],
    ['a shared WebAssembly.Memory', () => wasm(new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true }))],
  ])('%s is used where it lies', (_name, make) => {
    const { memory, bytes } = make();
    const region = pinRegion(memory);
    expect(region.byteLength).toBe(bytes().byteLength);
    expect(region.file).toBeUndefined();
    expectSameMemory(region);
    expect([bytes()[0], bytes().at(-1)]).toEqual([0x11, 0x22]);
    // Written after it was registered: the region shows it.
    bytes()[1] = 0x33;
    expect(region.window.u8[region.offset + 1]).toBe(0x33);
  });

  it('is marked untransferable', () => {
    const bytes = new Uint8Array(64).fill(9);
    pinRegion(bytes);
    tryToTransfer(bytes.buffer);
    expect([bytes.byteLength, bytes[63]]).toEqual([64, 9]);
  });

  it.each<[string, () => PinnableMemory, RegExp]>([
    ['of zero length', () => new Uint8Array(0), /empty or detached/],
    ['of zero length in a buffer that has bytes', () => new Uint8Array(8).subarray(8), /empty or detached/],
    ['that was detached', detached, /empty or detached/],
    ['that was detached, as an ArrayBuffer', () => detached().buffer as ArrayBuffer, /empty or detached/],
    ['that is resizable', () => resizable(ArrayBuffer), /resizable/],
    ['that is a view of a resizable buffer', () => new Uint8Array(resizable(ArrayBuffer), 0, 4), /resizable/],
    ['that is growable', () => resizable(SharedArrayBuffer), /resizable/],
    ['of more than 2 GiB', () => new Uint8Array(new ArrayBuffer(2 ** 31 + 1)), /cannot register/],
    ['of 2 GiB at an odd address', () => new Uint8Array(new ArrayBuffer(2 ** 31 + 1), 1), /cannot register/],
    ['that is no memory', () => [1, 2, 3] as never, /only memory/],
  ])('%s is refused', (_name, make, message) => {
    expect(() => pinRegion(make())).toThrow(
      expect.objectContaining({ code: 'ERR_SDXI_ARGUMENT', hint: expect.any(String), message: expect.stringMatching(message) }),
    );
  });

  it('of WebAssembly that grows is no longer attached, and its old bytes are still the memory', () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 4 });
    const region = pinRegion(memory);
    expect(region.attached).toBe(true);
    memory.grow(1);
    expect(region.attached).toBe(false);
    region.window.u8[region.offset] = 0x44;
    expect(region.byteLength).toBe(65536);
  });
});

function ordinary(memory: ArrayBufferView | ArrayBufferLike): { memory: PinnableMemory; bytes: () => Uint8Array } {
  const view = ArrayBuffer.isView(memory) ? new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength) : new Uint8Array(memory);
  return { memory, bytes: () => view };
}

function wasm(memory: WebAssembly.Memory): { memory: PinnableMemory; bytes: () => Uint8Array } {
  return { memory, bytes: () => new Uint8Array(memory.buffer) };
}

function detached(): Uint8Array {
  const bytes = new Uint8Array(8);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

describe('regions over files', () => {
  const temporary = () => {
    const folder = mkdtempSync(join(tmpdir(), 'sdxi-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    return join(folder, 'memory');
  };

  it('two regions over the same bytes of a file are the same memory, wherever it is opened', () => {
    const path = temporary();
    writeFileSync(path, Buffer.alloc(3 * PAGE_BYTES, 1));
    const whole = openRegion(openSync(path, 'r+'));
    const part = openRegion(openSync(path, 'r+'), { offset: PAGE_BYTES, byteLength: PAGE_BYTES });
    expect([whole.byteLength, whole.file?.offset, part.byteLength, part.file?.offset]).toEqual([3 * PAGE_BYTES, 0, PAGE_BYTES, PAGE_BYTES]);
    part.bytes.fill(7);
    expect([whole.bytes[PAGE_BYTES - 1], whole.bytes[PAGE_BYTES], whole.bytes[2 * PAGE_BYTES]]).toEqual([1, 7, 1]);
    for (const region of [whole, part]) region.closeFile?.();
    expect(readFileSync(path)[PAGE_BYTES]).toBe(7);
    expect(part.file).toBeUndefined();
    expect(part.bytes[0]).toBe(7);
  });

  it('a memfd goes by its number, so another process can inherit it', () => {
    const one = allocateRegion(PAGE_BYTES);
    const other = openRegion(openSync(`/proc/self/fd/${one.file?.fd}`, 'r+'));
    one.bytes[5] = 9;
    expect(other.bytes[5]).toBe(9);
  });

  it.each([
    { byteLength: 5 * PAGE_BYTES },
    { offset: 1 },
    { offset: 3 * PAGE_BYTES },
    { offset: -PAGE_BYTES },
    { offset: PAGE_BYTES, byteLength: 3 * PAGE_BYTES },
    { byteLength: 100 },
    { byteLength: 0 },
    { offset: Number.NaN },
  ])('a part that is not whole pages of the file is refused, and the file closed: %j', (part) => {
    const path = temporary();
    writeFileSync(path, Buffer.alloc(3 * PAGE_BYTES));
    const fd = openSync(path, 'r+');
    expect(() => openRegion(fd, part)).toThrow(/cannot be mapped/);
    expect(() => fstatSync(fd)).toThrow(/EBADF/);
  });

  it('what is no file is refused; one that may only be read gives the system`s error', () => {
    for (const fd of [-1, 1.5, undefined]) expect(() => openRegion(fd as number)).toThrow(/no file descriptor/);
    const path = temporary();
    writeFileSync(path, Buffer.alloc(PAGE_BYTES));
    expect(() => openRegion(openSync(path, 'r'))).toThrow(/mmap failed with errno 13/);
  });
});
