import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MemoryAdvice } from '../../src/bus/index.js';
import { IovaSpace, type SdxiDriver } from '../../src/driver/index.js';
import { allocateRegion, type Region } from '../../src/memory/region.js';
import { Grant, MemoryTable } from '../../src/mover/memory.js';
import { RangeIndex } from '../../src/mover/range-index.js';
import { moverFixture, pattern, rejection, thrown, turn, URIS } from './rig.js';

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

describe.each(URIS)('registered memory over $name', ({ uri }) => {
  const start = moverFixture();

  it('a buffer written after register and before submit arrives with the new bytes', async () => {
    const mover = await start(uri);
    const source = Buffer.alloc(100_000);
    const registration = mover.register(source);
    const target = mover.alloc(100_000);
    pattern(source);
    await mover.copy(source, target);
    expect(target.equals(source)).toBe(true);
    await registration.close();
  });

  it.each<[string, () => { memory: Parameters<Awaited<ReturnType<typeof start>>['register']>[0]; view: Uint8Array }]>([
    ['Buffer', () => of(Buffer.alloc(70_000))],
    ['pooled Buffer', () => of(Buffer.allocUnsafe(1000))],
    ['Uint8Array at an odd offset', () => of(new Uint8Array(new ArrayBuffer(5000), 3, 4001))],
    ['small typed array', () => of(new Uint8Array(16))],
    [
      'Float64Array',
      () => {
        const memory = new Float64Array(1000);
        return { memory, view: new Uint8Array(memory.buffer) };
      },
    ],
    [
      'ArrayBuffer',
      () => {
        const memory = new ArrayBuffer(9999);
        return { memory, view: new Uint8Array(memory) };
      },
    ],
    [
      'SharedArrayBuffer',
      () => {
        const memory = new SharedArrayBuffer(9999);
        return { memory, view: new Uint8Array(memory) };
      },
    ],
    [
      'WebAssembly.Memory',
      () => {
        const memory = new WebAssembly.Memory({ initial: 1 });
        return { memory, view: new Uint8Array(memory.buffer) };
      },
    ],
  ])('%s: there and back', async (_name, make) => {
    const mover = await start(uri);
    const { memory, view } = make();
    const registration = mover.register(memory);
    expect(registration.byteLength).toBe(view.byteLength);
    const [source, back] = [mover.alloc(view.byteLength), mover.alloc(view.byteLength)];
    pattern(source);
    await mover.copy(source, view);
    expect(Buffer.from(view).equals(source)).toBe(true);
    await mover.copy(view, back);
    expect(back.equals(source)).toBe(true);
    await registration.close();
    expect((await rejection(mover.copy(view, back))).code).toBe('ERR_SDXI_NOT_REGISTERED');
  });

  it('a registration grants exactly the bytes of its view', async () => {
    const mover = await start(uri);
    const buffer = Buffer.alloc(10_000);
    const registration = mover.register(buffer.subarray(1000, 2000));
    const target = mover.alloc(10_000);
    await mover.copy(buffer.subarray(1000, 2000), target.subarray(0, 1000));
    await mover.copy(buffer.subarray(1500, 1501), target.subarray(0, 1));
    for (const [from, to] of [
      [999, 1001],
      [1000, 2001],
      [0, 10_000],
      [2000, 2001],
    ]) {
      const error = await rejection(mover.copy(buffer.subarray(from, to), target.subarray(0, to - from)));
      expect(error).toMatchObject({ code: 'ERR_SDXI_NOT_REGISTERED', hint: expect.stringContaining('exactly the bytes') });
    }
    await registration.close();
  });

  it('overlapping registrations are separate: closing one leaves the other', async () => {
    const mover = await start(uri);
    const buffer = Buffer.alloc(4000);
    const all = mover.register(buffer);
    const part = mover.register(buffer.subarray(1000, 2000));
    await all.close();
    await mover.fill(buffer.subarray(1000, 2000), 7);
    expect((await rejection(mover.fill(buffer, 7))).code).toBe('ERR_SDXI_NOT_REGISTERED');
    await part.close();
    await part.close();
    expect((await rejection(mover.fill(buffer.subarray(1000, 2000), 7))).code).toBe('ERR_SDXI_NOT_REGISTERED');
    expect(buffer.subarray(1000, 2000).every((byte) => byte === 7)).toBe(true);
  });

  it('refuses empty, resizable, growable and detached memory, and what is none', async () => {
    const mover = await start(uri);
    const Resizable = ArrayBuffer as unknown as new (length: number, options: { maxByteLength: number }) => ArrayBuffer;
    const Growable = SharedArrayBuffer as unknown as new (length: number, options: { maxByteLength: number }) => SharedArrayBuffer;
    const detached = new ArrayBuffer(100);
    structuredClone(detached, { transfer: [detached] });
    const refused: [string, unknown][] = [
      ['empty', new Uint8Array(0)],
      ['resizable', new Resizable(100, { maxByteLength: 200 })],
      ['view of resizable', new Uint8Array(new Resizable(100, { maxByteLength: 200 }))],
      ['growable', new Growable(100, { maxByteLength: 200 })],
      ['detached', detached],
      ['string', 'memory'],
      ['number', 5],
    ];
    for (const [what, memory] of refused)
      expect([what, thrown(() => mover.register(memory as Uint8Array)).code]).toEqual([what, 'ERR_SDXI_ARGUMENT']);
    expect(thrown(() => mover.register(Buffer.alloc(1), { access: 'all' as 'read' })).code).toBe('ERR_SDXI_ARGUMENT');
  });

  it('marks the ArrayBuffer untransferable', async () => {
    const mover = await start(uri);
    const memory = new ArrayBuffer(100);
    const registration = mover.register(memory);
    // Depending on the version of Node a transfer throws or copies; the memory stays in any case.
    try {
      structuredClone(memory, { transfer: [memory] });
    } catch {}
    expect(memory.byteLength).toBe(100);
    await registration.close();
  });

  it('memory that is detached at submit is an error of its own', async () => {
    const mover = await start(uri);
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 4 });
    const view = new Uint8Array(memory.buffer);
    const registration = mover.register(memory);
    const target = mover.alloc(65536);
    memory.grow(1);
    expect((await rejection(mover.copy(view, target))).code).toBe('ERR_SDXI_DETACHED');
    expect((await rejection(mover.copy(target.subarray(0, 0), view))).code).toBe('ERR_SDXI_DETACHED');
    expect((await rejection(mover.fill(view, 0))).code).toBe('ERR_SDXI_DETACHED');
    expect((await rejection(mover.copy(new Uint8Array(memory.buffer, 0, 65536), target))).code).toBe('ERR_SDXI_NOT_REGISTERED');
    await registration.close();
  });

  it('keeps registered memory alive when the program has forgotten it', async () => {
    const mover = await start(uri);
    const size = 1 << 20;
    const buffers = Array.from({ length: 8 }, () => Buffer.alloc(size, 1));
    const registrations = buffers.map((buffer) => mover.register(buffer));
    const target = mover.alloc(size);
    const expected = Buffer.alloc(size, 1);
    for (let round = 0; round < 8; round++) {
      const work = mover.copy(buffers.pop() as Buffer, target);
      gc();
      await turn();
      gc();
      Array.from({ length: 4 }, () => Buffer.alloc(size, 2));
      await work;
      expect(target.equals(expected)).toBe(true);
      target.fill(0);
    }
    await Promise.all(registrations.map((registration) => registration.close()));
  });

  it('read-only memory cannot be written, write-only memory cannot be read', async () => {
    const mover = await start(uri);
    const buffers = [Buffer.alloc(100, 1), Buffer.alloc(100, 2)];
    mover.register(buffers[0], { access: 'read' });
    mover.register(buffers[1], { access: 'write' });
    await mover.copy(buffers[0], buffers[1]);
    expect(buffers[1][99]).toBe(1);
    expect(await rejection(mover.copy(buffers[1], buffers[0]))).toMatchObject({ code: 'ERR_SDXI_DATA_ACCESS', fields: { operand: 0 } });
    expect(await rejection(mover.fill(buffers[0], 3))).toMatchObject({ code: 'ERR_SDXI_DATA_ACCESS', fields: { operand: 1 } });
    expect(buffers[0][0]).toBe(1);
  });

  it('closing a registration waits for its own work', async () => {
    const mover = await start(uri);
    const buffer = Buffer.alloc(64 << 20, 5);
    const target = mover.alloc(64 << 20);
    const registration = mover.register(buffer);
    const work = mover.copy(buffer, target);
    const closed = registration.close().then(() => target[target.length - 1] === 5);
    expect((await rejection(mover.copy(buffer, target))).code).toBe('ERR_SDXI_NOT_REGISTERED');
    expect(await closed).toBe(true);
    await work;
  });

  it('freed memory is refused, reused only when no work is on it, and stays readable', async () => {
    const mover = await start(uri);
    const size = 32 << 20;
    const [from, to] = [mover.alloc(size).fill(9), mover.alloc(size)];
    const work = mover.copy(from, to);
    mover.free(to);
    const next = mover.alloc(size);
    expect(next.buffer === to.buffer && next.byteOffset === to.byteOffset).toBe(false);
    await work;
    expect(next.equals(Buffer.alloc(size))).toBe(true);
    expect((await rejection(mover.copy(from, to))).code).toBe('ERR_SDXI_NOT_REGISTERED');
    expect(to.length).toBe(size);
    expect(thrown(() => mover.free(to)).code).toBe('ERR_SDXI_ARGUMENT');
    expect(thrown(() => mover.free(from.subarray(1))).code).toBe('ERR_SDXI_ARGUMENT');
    expect(thrown(() => mover.free(Buffer.alloc(10))).code).toBe('ERR_SDXI_ARGUMENT');
  });

  it('alloc: zeroed, aligned, distinct, and bounded', async () => {
    const mover = await start(uri);
    const buffers = Array.from({ length: 200 }, (_, i) => mover.alloc(1 + i * 37, { alignment: 2 ** (i % 13) }));
    for (const [i, buffer] of buffers.entries()) buffer.fill(i);
    for (const [i, buffer] of buffers.entries()) expect(buffer.every((byte) => byte === i)).toBe(true);
    for (const buffer of buffers) mover.free(buffer);
    expect(mover.alloc(5000).every((byte) => byte === 0)).toBe(true);
    for (const bad of [0, -1, 1.5, 2 ** 31 + 1]) expect(thrown(() => mover.alloc(bad)).code).toBe('ERR_SDXI_ARGUMENT');
    for (const alignment of [0, 3, 8192]) expect(thrown(() => mover.alloc(64, { alignment })).code).toBe('ERR_SDXI_ARGUMENT');
  });
});

function of(memory: Uint8Array): { memory: Uint8Array; view: Uint8Array } {
  return { memory, view: memory };
}

describe('the ranges of one ArrayBuffer', () => {
  it('find agrees with a linear search, whatever is added and removed', () => {
    const range = fc.record({ start: fc.nat(60), length: fc.integer({ min: 1, max: 20 }) });
    const step = fc.oneof(
      range.map((r) => ({ kind: 'add' as const, ...r })),
      fc.nat(30).map((at) => ({ kind: 'delete' as const, at })),
      range.map((r) => ({ kind: 'find' as const, ...r })),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const index = new RangeIndex();
        const model: Grant[] = [];
        for (const action of steps) {
          if (action.kind === 'add') {
            const grant = new Grant(0, 0, action.start, action.length);
            index.add(grant);
            model.push(grant);
          } else if (action.kind === 'delete') {
            const [grant] = model.splice(action.at % (model.length || 1), 1);
            if (grant) index.delete(grant);
          } else {
            const end = action.start + action.length;
            const found = index.find(action.start, end);
            const exists = model.some((grant) => grant.start <= action.start && end <= grant.end);
            expect(found !== undefined).toBe(exists);
            if (found) expect(model).toContain(found);
          }
          expect(index.size).toBe(model.length);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('allocated memory', () => {
  it('comes in the pieces that the most modest bus advises, from the source that one advises', () => {
    const made: number[] = [];
    const source = (byteLength: number) => {
      made.push(byteLength);
      return allocateRegion(byteLength);
    };
    const mapped: number[] = [];
    const driver = (memoryAdvice?: MemoryAdvice) =>
      ({
        bus: { memoryAdvice },
        map: ({ byteLength }: Region) => {
          mapped.push(byteLength);
          return { close() {} };
        },
      }) as unknown as SdxiDriver;
    const drivers = [driver(), driver({ chunkBytes: 2 ** 22 }), driver({ chunkBytes: 2 ** 21, source })];
    new MemoryTable(drivers, new IovaSpace()).alloc(100, 64);
    expect([made, mapped]).toEqual([[2 ** 21], [2 ** 21, 2 ** 21, 2 ** 21]]);
    new MemoryTable([driver()], new IovaSpace()).alloc(100, 64);
    expect(mapped.at(-1)).toBe(2 ** 24);
  });
});
