import { describe, expect, it } from 'vitest';
import type { AtomicName, BatchItem } from '../../src/mover/index.js';
import { moverFixture, pattern, rejection, URIS } from './rig.js';

const MIB = 2 ** 20;

describe.each(URIS)('operations over $name', ({ uri }) => {
  const start = moverFixture();

  it.each([1, 63, 4096, 100_003, 3 * MIB])('copy: %i bytes, odd addresses, nothing beside them', async (size) => {
    const mover = await start(uri);
    const [from, to] = [mover.alloc(size + 100), mover.alloc(size + 100)];
    pattern(from);
    await mover.copy(from.subarray(7, 7 + size), to.subarray(13, 13 + size));
    const expected = Buffer.alloc(size + 100);
    from.copy(expected, 13, 7, 7 + size);
    expect(to.equals(expected)).toBe(true);
  });

  it('copy: typed arrays of any kind, and views without bytes', async () => {
    const mover = await start(uri);
    const buffer = mover.alloc(4096);
    const from = new Float64Array(buffer.buffer, buffer.byteOffset, 8).fill(Math.PI);
    const to = new DataView(buffer.buffer, buffer.byteOffset + 1000, 64);
    await mover.copy(from, to);
    expect(to.getFloat64(56, true)).toBe(Math.PI);
    await mover.copy(buffer.subarray(5, 5), new Uint8Array(0));
    await mover.fill(new Uint8Array(0), 1);
    await mover.writeImmediate(new Uint8Array(0), new Uint8Array(0));
    expect(await mover.batch([])).toEqual({ descriptors: 0, bytes: 0 });
    expect(mover.stats().descriptors).toBe(1);
  });

  it.each([0, 0xab, 255])('fill with byte %i', async (value) => {
    const mover = await start(uri);
    const buffer = mover.alloc(20_000).fill(1);
    await mover.fill(buffer.subarray(3, 15_003), value);
    expect(buffer.subarray(3, 15_003).every((byte) => byte === value)).toBe(true);
    expect([buffer[2], buffer[15_003]]).toEqual([1, 1]);
  });

  it('fill with patterns: the phase starts at the first byte, also across pieces (S-22)', async () => {
    const mover = await start(`${uri}${uri.includes('?') ? '&' : '?'}maxBuffer=0`);
    const buffer = mover.alloc(5 * MIB);
    const page = Buffer.alloc(4096);
    pattern(page);
    await mover.fill(buffer.subarray(1, 5 * MIB - 1), page);
    for (const at of [0, 4095, 4096, 2 * MIB - 1, 2 * MIB, 4 * MIB + 5]) expect(buffer[1 + at]).toBe(page[at % 4096]);
    expect([buffer[0], buffer[5 * MIB - 1]]).toEqual([0, 0]);
    expect(mover.stats().descriptors).toBe(3);
    for (let n = 0; n < 40; n++) {
      await mover.fill(buffer.subarray(0, 64), Buffer.from([n, n + 1]));
      expect([buffer[0], buffer[1], buffer[62], buffer[63]]).toEqual([n, n + 1, n, n + 1]);
    }
  });

  it('copies beyond the largest buffer of a descriptor are split', async () => {
    const mover = await start(`${uri}${uri.includes('?') ? '&' : '?'}maxBuffer=0`);
    const [from, to] = [mover.alloc(7 * MIB + 5), mover.alloc(7 * MIB + 5)];
    pattern(from);
    await mover.copy(from, to);
    expect(to.equals(from)).toBe(true);
    expect(mover.stats().descriptors).toBe(4);
  });

  it('writeImmediate: 1 to 32 bytes, taken at the call', async () => {
    const mover = await start(uri);
    const buffer = mover.alloc(64);
    const data = Buffer.from('0123456789abcdef0123456789ABCDEF');
    const done = mover.writeImmediate(buffer.subarray(1, 33), data);
    data.fill(0);
    await done;
    expect(buffer.toString('latin1', 0, 34)).toBe('\x000123456789abcdef0123456789ABCDEF\0');
    await mover.writeImmediate(buffer.subarray(40, 41), Buffer.from('x'));
    expect(buffer[40]).toBe(0x78);
  });

  const M64 = 0xffff_ffff_ffff_fff0n;
  it.each<[AtomicName, bigint, bigint | number, bigint | number, bigint]>([
    ['swap', 1n, 2n, 0, 2n],
    ['uadd', M64, 0x20, 0, 0x10n],
    ['usub', 1n, 2, 0, 2n ** 64n - 1n],
    ['and', 0xf0f0n, 0xff00, 0, 0xf000n],
    ['or', 0xf0f0n, 0x0f00, 0, 0xfff0n],
    ['xor', 0xf0f0n, 0xffff, 0, 0x0f0fn],
    ['smin', 5n, -3, 0, 2n ** 64n - 3n],
    ['smax', M64, 3, 0, 3n],
    ['umin', 5n, -3, 0, 5n],
    ['umax', 5n, -3, 0, 2n ** 64n - 3n],
    ['uclampi', 9n, 10, 0, 10n],
    ['uclampd', 10n, 10, 0, 10n],
    ['cmpswap', 7n, 9, 7, 9n],
    ['cmpswap', 7n, 9, 8, 7n],
  ])('atomic %s on 8 bytes: %i', async (operation, before, operand, compare, after) => {
    const mover = await start(uri);
    const target = mover.alloc(8);
    target.writeBigUInt64LE(before);
    expect(await mover.atomic(operation, target, { operand, compare })).toBe(before);
    expect(target.readBigUInt64LE()).toBe(after);
  });

  it('atomic on 4 bytes leaves the other half alone', async () => {
    const mover = await start(uri);
    const buffer = mover.alloc(16).fill(0xff);
    expect(await mover.atomic('uadd', buffer.subarray(4, 8), { operand: 2 })).toBe(0xffff_ffffn);
    expect(buffer.toString('hex', 0, 12)).toBe('ffffffff01000000ffffffff');
  });

  it('batch: scatter and gather, fenced elements after those before them', async () => {
    const mover = await start(uri);
    const [from, to] = [mover.alloc(100_000), mover.alloc(100_000)];
    pattern(from);
    const items: BatchItem[] = Array.from({ length: 1000 }, (_, i) => ({
      op: 'copy',
      source: from.subarray(i * 100, i * 100 + 80),
      destination: to.subarray(99_900 - i * 100, 99_980 - i * 100),
    }));
    items.push({ op: 'fill', destination: to.subarray(50, 99_000), value: 9, fence: true });
    items.push({ op: 'writeImmediate', destination: to.subarray(60, 63), data: Buffer.from('end'), fence: true });
    items.push({ op: 'copy', source: to.subarray(60, 63), destination: to.subarray(10, 13), fence: true });
    expect(await mover.batch(items)).toEqual({ descriptors: 1003, bytes: 80_000 + 98_950 + 6 });
    expect(to.subarray(99_900, 99_980).equals(from.subarray(0, 80))).toBe(true);
    expect(to.toString('latin1', 10, 13)).toBe('end');
    expect(to[98_000]).toBe(9);
  });

  it('what cannot be is refused before anything moves', async () => {
    const mover = await start(uri);
    const buffer = mover.alloc(4096);
    const bad: [string, () => Promise<unknown>, string][] = [
      ['lengths differ', () => mover.copy(buffer.subarray(0, 10), buffer.subarray(100, 111)), 'ERR_SDXI_ARGUMENT'],
      ['lengths differ, one empty', () => mover.copy(buffer.subarray(0, 0), buffer.subarray(100, 111)), 'ERR_SDXI_ARGUMENT'],
      ['no view', () => mover.copy(buffer.buffer as never, buffer), 'ERR_SDXI_ARGUMENT'],
      ['not registered', () => mover.copy(buffer.subarray(0, 10), Buffer.alloc(10)), 'ERR_SDXI_NOT_REGISTERED'],
      ['beyond the allocation', () => mover.fill(new Uint8Array(buffer.buffer, buffer.byteOffset, 4097), 0), 'ERR_SDXI_NOT_REGISTERED'],
      ['no byte', () => mover.fill(buffer, 256), 'ERR_SDXI_ARGUMENT'],
      ['no pattern', () => mover.fill(buffer, new Uint8Array(3)), 'ERR_SDXI_ARGUMENT'],
      ['empty pattern', () => mover.fill(buffer, new Uint8Array(0)), 'ERR_SDXI_ARGUMENT'],
      ['33 bytes', () => mover.writeImmediate(buffer.subarray(0, 33), new Uint8Array(33)), 'ERR_SDXI_ARGUMENT'],
      ['lengths differ', () => mover.writeImmediate(buffer.subarray(0, 3), new Uint8Array(4)), 'ERR_SDXI_ARGUMENT'],
      ['atomic width', () => mover.atomic('uadd', buffer.subarray(0, 5), { operand: 1 }), 'ERR_SDXI_ARGUMENT'],
      ['atomic alignment', () => mover.atomic('uadd', buffer.subarray(2, 6), { operand: 1 }), 'ERR_SDXI_ARGUMENT'],
      ['atomic name', () => mover.atomic('nand' as AtomicName, buffer.subarray(0, 4), { operand: 1 }), 'ERR_SDXI_ARGUMENT'],
      ['atomic operand', () => mover.atomic('uadd', buffer.subarray(0, 4), { operand: 0.5 }), 'ERR_SDXI_ARGUMENT'],
      ['batch operation', () => mover.batch([{ op: 'move' } as never]), 'ERR_SDXI_ARGUMENT'],
      [
        'batch element',
        () =>
          mover.batch([
            { op: 'fill', destination: buffer, value: 1 },
            { op: 'fill', destination: Buffer.alloc(1), value: 1 },
          ]),
        'ERR_SDXI_NOT_REGISTERED',
      ],
    ];
    for (const [what, action, code] of bad) expect([what, (await rejection(action())).code]).toEqual([what, code]);
    expect(buffer.every((byte) => byte === 0)).toBe(true);
    expect(mover.stats()).toMatchObject({ descriptors: 0, queued: 0, inFlight: 0 });
  });

  it('a function without atomics says so', async () => {
    const mover = await start(`${uri}${uri.includes('?') ? '&' : '?'}opGroups=0x10`);
    expect((await rejection(mover.atomic('uadd', mover.alloc(8), { operand: 1 }))).code).toBe('ERR_SDXI_UNSUPPORTED');
  });

  it('info and functions tell limits, states and contexts as plain data', async () => {
    const mover = await start(uri);
    mover.alloc(100);
    const info = JSON.parse(JSON.stringify(mover.info()));
    expect(info.functions[0]).toMatchObject({
      name: mover.functions[0].name,
      state: 'ACTIVE',
      maxContext: 63,
      contexts: [
        { number: 0, state: 'RUN', ringEntries: 1024 },
        { name: `${mover.functions[0].name}/cxt1`, state: 'RUN', ringEntries: 4096 },
      ],
    });
    expect(info.memory).toMatchObject({ allocations: 1, allocatedBytes: 100 });
  });
});
