import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { serveDma } from '../../../src/bus/vfio-user/dma.js';
import { SharedLink } from '../../../src/bus/vfio-user/shared.js';
import { addressOf } from '../../../src/native/libc.js';
import { Errno, socketPair } from '../../../src/native/socket.js';
import { Connection, Received } from '../../../src/vfio-user/connection.js';
import { Command, DMA_ACCESS_BYTES, Flag, MapFlag, setField64 } from '../../../src/vfio-user/messages.js';

const BYTES = 4096;
const memory = new Uint8Array(new ArrayBuffer(BYTES));
let server: Connection;
let user: Connection;
let shared: SharedLink;

beforeEach(() => {
  const [one, other] = socketPair();
  server = new Connection(one);
  user = new Connection(other);
  shared = new SharedLink();
  memory.fill(0xee);
});

afterEach(() => {
  server.close();
  user.close();
});

/** Grants a part of {@link memory}, at a DMA address of its own. */
function grant(iova: number, offset: number, byteLength: number, access: number): void {
  shared.grant({ iova, byteLength, address: addressOf(memory) + offset, access });
}

/** What comes of a command. @returns its errno, 0 for none */
function ask(command: number, address: bigint | number, count: bigint | number, data = new Uint8Array(), cut = DMA_ACCESS_BYTES): number {
  const body = Buffer.alloc(DMA_ACCESS_BYTES + data.length);
  body.writeBigUInt64LE(BigInt(address), 0);
  body.writeBigUInt64LE(BigInt(count), 8);
  body.set(data, DMA_ACCESS_BYTES);
  const bytes = data.length === 0 ? cut : body.length;
  server.out.bytes(0, body.subarray(0, bytes));
  server.send(7, command, bytes, Flag.COMMAND);
  expect(user.receive()).toBe(Received.MESSAGE);
  expect(serveDma(user, shared)).toBe(0);
  expect(server.receive()).toBe(Received.MESSAGE);
  expect(server).toMatchObject({ id: 7, command });
  return (server.flags & Flag.ERROR) === 0 ? 0 : server.error;
}

const read = (address: bigint | number, count: bigint | number) => ask(Command.DMA_READ, address, count);
const write = (address: number, data: number[]) => ask(Command.DMA_WRITE, address, data.length, Uint8Array.from(data));
const BOTH = MapFlag.READ | MapFlag.WRITE;

describe('memory that a server reaches by messages', () => {
  it('is what was granted, to its edges and no further', () => {
    grant(0x1000, 64, 128, BOTH);
    expect(read(0x1000, 128)).toBe(0);
    expect(server.body.subarray(DMA_ACCESS_BYTES)).toEqual(memory.subarray(64, 192));
    expect([read(0xfff, 1), read(0xfff, 2), read(0x1080, 1), read(0x107f, 2), read(0x1000, 129)]).toEqual(new Array(5).fill(Errno.EFAULT));
    expect([write(0x1000, [1]), write(0x107f, [2])]).toEqual([0, 0]);
    expect([write(0xfff, [3, 3]), write(0x107f, [3, 3]), write(0x107c, new Array(8).fill(3))]).toEqual(new Array(3).fill(Errno.EFAULT));
    const expected = new Uint8Array(BYTES).fill(0xee);
    expected[64] = 1;
    expected[191] = 2;
    expect(memory).toEqual(expected);
  });

  it.each<[what: string, address: bigint, count: bigint]>([
    ['nothing', 0x1000n, 0n],
    ['too much at once', 0x1000n, (1n << 20n) + 1n],
    ['all there is', 0n, 0xffff_ffff_ffff_ffffn],
    ['a range that wraps around', 0xffff_ffff_ffff_fff0n, 0x20n],
    ['an address past all numbers', 1n << 53n, 8n],
    ['a length that is right but for its upper half', 0x1000n, (1n << 32n) + 8n],
  ])('%s: EINVAL', (_, address, count) => {
    grant(0x1000, 0, 128, BOTH);
    expect(read(address, count)).toBe(Errno.EINVAL);
  });

  it('an address whose upper half is wrong is another one', () => {
    grant(0x1000, 0, 128, BOTH);
    expect(read((1n << 32n) + 0x1000n, 8)).toBe(Errno.EFAULT);
    grant(2 ** 53 - 4096, 0, 4096 - 1, BOTH);
    expect([read(2n ** 53n - 8n, 7), read(2n ** 53n - 8n, 8), read(2n ** 53n - 2n, 2)]).toEqual([0, Errno.EFAULT, Errno.EFAULT]);
  });

  it('needs the right for each byte, before the first is written', () => {
    grant(0x1000, 0, 64, BOTH);
    grant(0x1040, 64, 64, MapFlag.READ);
    grant(0x1080, 128, 64, MapFlag.WRITE);
    expect([read(0x1000, 128), read(0x1000, 129), read(0x1080, 1)]).toEqual([0, Errno.EFAULT, Errno.EFAULT]);
    expect([write(0x103c, [1, 2, 3, 4, 5]), write(0x1040, [1]), write(0x1080, [9])]).toEqual([Errno.EFAULT, Errno.EFAULT, 0]);
    expect(memory.findIndex((byte) => byte !== 0xee)).toBe(128);
  });

  it('a message whose size does not fit is refused', () => {
    grant(0x1000, 0, 128, BOTH);
    for (const cut of [0, 8, 15]) expect(ask(Command.DMA_READ, 0x1000, 8, undefined, cut)).toBe(Errno.EINVAL);
    expect(ask(Command.DMA_READ, 0x1000, 8, new Uint8Array(8))).toBe(Errno.EINVAL);
    expect(ask(Command.DMA_WRITE, 0x1000, 9, new Uint8Array(8))).toBe(Errno.EINVAL);
    expect(ask(Command.DMA_WRITE, 0x1000, 7, new Uint8Array(8))).toBe(Errno.EINVAL);
    expect(ask(Command.DMA_WRITE, 0x1000, 8)).toBe(Errno.EINVAL);
    expect(memory.every((byte) => byte === 0xee)).toBe(true);
  });

  it('is nobody’s any more once it was revoked', () => {
    grant(0x1000, 0, 128, BOTH);
    grant(0x2000, 128, 128, BOTH);
    shared.revoke(0x1000);
    expect([read(0x1000, 1), read(0x2000, 1)]).toEqual([Errno.EFAULT, 0]);
    shared.revokeAll();
    expect(read(0x2000, 1)).toBe(Errno.EFAULT);
  });

  it('changes where a model says, whatever is granted and asked for', () => {
    const granted = fc.array(
      fc.record({ at: fc.nat(30), length: fc.integer({ min: 1, max: 40 }), access: fc.integer({ min: 0, max: 3 }) }),
      {
        maxLength: 5,
      },
    );
    const asked = fc.array(fc.record({ at: fc.nat(400), length: fc.integer({ min: 1, max: 80 }), value: fc.nat(255) }), { maxLength: 20 });
    fc.assert(
      fc.property(granted, asked, (grants, writes) => {
        shared = new SharedLink();
        memory.fill(0xee);
        const expected = memory.slice();
        const writable = new Set<number>();
        let from = 8;
        for (const { at, length, access } of grants) {
          from += at;
          grant(0x1000 + from, from, length, access);
          for (let i = 0; i < length; i++) if ((access & MapFlag.WRITE) !== 0) writable.add(from + i);
          from += length;
        }
        for (const { at, length, value } of writes) {
          const all = Array.from({ length }, (_, i) => at + i);
          const allowed = all.every((byte) => writable.has(byte));
          expect(write(0x1000 + at, new Array(length).fill(value))).toBe(allowed ? 0 : Errno.EFAULT);
          if (allowed) expected.fill(value, at, at + length);
        }
        expect(memory).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });
});

describe('other commands', () => {
  it('are none that a server may send', () => {
    const view = new DataView(new ArrayBuffer(16));
    setField64(view, 0, 0x1000);
    for (const command of [0, Command.DMA_MAP, Command.REGION_READ, Command.DEVICE_RESET, 0xffff]) {
      server.send(7, command, 0, Flag.COMMAND);
      expect(user.receive()).toBe(Received.MESSAGE);
      expect(() => serveDma(user, shared)).toThrow('nothing that a server asks for');
    }
  });
});
