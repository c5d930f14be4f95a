/** Random programs: what software does, in words that any memory layout can be asked for. */
import fc from 'fast-check';
import { CSBS, type Place } from './estate.js';

/** Where an operand lies. */
export interface Operand {
  key: number;
  segment: number;
  anchor: 'start' | 'end' | 'inside' | 'csb' | 'ring';
  shift: number;
  wild?: bigint;
}

export interface Block {
  kind: 'none' | 'fresh' | 'data' | 'wild';
  signal: bigint;
}

export interface Op {
  kind: 'nop' | 'copy' | 'repcopy' | 'imm' | 'atomic' | 'intr' | 'admin' | 'weird';
  /** Flag bits of byte 0 besides vl. */
  flags: number;
  block: Block;
  size: number;
  from: Operand;
  to: Operand;
  /** Subtype of an atomic, admin or weird operation; low bits choose variants. */
  code: number;
  first: number;
  last: number;
  bits: number;
  operands: [bigint, bigint];
  /** Something about it may be wrong; otherwise only memory and limits can be. */
  evil: boolean;
}

export type Event =
  | { kind: 'submit'; context: number; ops: Op[]; holes: number[]; ring: boolean; start: boolean }
  | { kind: 'fill'; context: number; ring: boolean }
  | { kind: 'ring'; context: number; value: number }
  | { kind: 'step'; budget: number }
  | { kind: 'drain' }
  | { kind: 'map'; piece: number; access: number }
  | { kind: 'start'; context: number; ring: boolean }
  | { kind: 'stop'; hard: boolean; reset: boolean; steps: number; escalate: boolean }
  | { kind: 'flr' }
  | { kind: 'log'; what: 'clear' | 'read' | 'off' | 'on' | 'quiet' | 'loud' }
  | { kind: 'limits'; maxContext: number; maxBuffer: number; maxAkey: number; opGroups: number }
  | { kind: 'poke'; context: number; what: 'l2' | 'l1' | 'ctl' | 'size' | 'akeys' | 'state' | 'behind' | 'beyond' | 'huge' | 'key' };

const KEYS = [1, 2, 3, 4, 5, 6, 7, 7, 255, 256, 511, 0xffff];
const WILD = [0n, 0xfffn, 1n << 40n, (1n << 53n) - 1n, 1n << 53n, (1n << 53n) + 2n, 1n << 63n, (1n << 64n) - 1n, 0xffff_ffff_ffff_f000n];

const operand: fc.Arbitrary<Operand> = fc.record({
  key: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(...KEYS) }),
  segment: fc.nat(7),
  anchor: fc.oneof(
    { weight: 10, arbitrary: fc.constant('inside' as const) },
    { weight: 3, arbitrary: fc.constantFrom('start' as const, 'end' as const) },
    { weight: 1, arbitrary: fc.constantFrom('csb' as const, 'ring' as const) },
  ),
  shift: fc.oneof(
    { weight: 3, arbitrary: fc.nat(100_000) },
    { weight: 3, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -9, max: 9 }) },
  ),
  wild: fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.constantFrom(...WILD) }),
});

const U64 = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.constantFrom(0n, 1n, 0xffff_ffffn, 1n << 31n, 1n << 63n, (1n << 64n) - 1n),
);

/** One operation; with `admin`, mostly of the admin group. */
export const ops = ({ large, admin }: { large: boolean; admin: boolean }): fc.Arbitrary<Op> =>
  fc.record({
    kind: fc.oneof(
      { weight: 30, arbitrary: fc.constant('copy' as const) },
      { weight: 9, arbitrary: fc.constant('repcopy' as const) },
      { weight: 15, arbitrary: fc.constant('imm' as const) },
      { weight: 15, arbitrary: fc.constant('atomic' as const) },
      { weight: 9, arbitrary: fc.constantFrom('nop' as const, 'intr' as const) },
      { weight: 9, arbitrary: fc.constant('weird' as const) },
      { weight: admin ? 180 : 5, arbitrary: fc.constant('admin' as const) },
    ),
    flags: fc.oneof(
      { weight: 5, arbitrary: fc.constant(0) },
      { weight: 5, arbitrary: fc.constantFrom(0x2, 0x4, 0x6, 0x10, 0x20, 0xc0) },
      { weight: 1, arbitrary: fc.constant(0x8) },
    ),
    block: fc.record({
      kind: fc.oneof(
        { weight: 5, arbitrary: fc.constantFrom('none' as const, 'fresh' as const, 'fresh' as const) },
        { weight: 1, arbitrary: fc.constantFrom('data' as const, 'wild' as const) },
      ),
      signal: fc.oneof({ weight: 3, arbitrary: fc.constant(1n) }, { weight: 1, arbitrary: fc.constantFrom(0n, 0xffn, 3n, 1n << 32n) }),
    }),
    size: fc.oneof(
      { weight: 60, arbitrary: fc.integer({ min: 1, max: 80 }) },
      { weight: 40, arbitrary: fc.constantFrom(8, 16, 64, 4096, 8192, 20_000, 33_333) },
      { weight: 20, arbitrary: fc.integer({ min: 1, max: 12_000 }) },
      { weight: large ? 120 : 2, arbitrary: fc.constantFrom(262_144, 262_145, 300_000, 524_289, 600_000) },
      { weight: 10, arbitrary: fc.constantFrom(2 ** 21, 2 ** 21 + 1, 2 ** 32) },
    ),
    from: operand,
    to: operand,
    code: fc.nat(255),
    first: fc.oneof({ weight: 12, arbitrary: fc.nat(3) }, { weight: 1, arbitrary: fc.nat(62) }),
    last: fc.nat(4),
    bits: fc.nat(0xff),
    operands: fc.tuple(U64, U64),
    evil: fc.oneof({ weight: 14, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  });

export interface ProgramOptions {
  contexts: number;
  large: boolean;
  events: number;
}

/** Events in which anything goes. */
export const programs = ({ contexts, large, events }: ProgramOptions): fc.Arbitrary<Event[]> => {
  const context = fc.integer({ min: 1, max: contexts });
  const any = fc.nat(contexts);
  const submit = (admin: boolean): fc.Arbitrary<Event> =>
    fc.record({
      kind: fc.constant('submit' as const),
      context: admin ? fc.constant(0) : context,
      ops: fc.array(ops({ large, admin }), { minLength: 1, maxLength: admin ? 3 : 24, size: 'max' }),
      holes: fc.oneof(
        { weight: 4, arbitrary: fc.constant<number[]>([]) },
        { weight: 1, arbitrary: fc.array(fc.nat(23), { maxLength: 3 }) },
      ),
      ring: fc.oneof({ weight: 6, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
      start: fc.oneof({ weight: 5, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
    });
  const event: fc.Arbitrary<Event> = fc.oneof(
    { weight: 14, arbitrary: submit(false) },
    { weight: 5, arbitrary: submit(true) },
    {
      weight: 16,
      arbitrary: fc.record({
        kind: fc.constant('step' as const),
        budget: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 64 })),
      }),
    },
    { weight: 4, arbitrary: fc.constant<Event>({ kind: 'drain' }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('fill' as const), context: any, ring: fc.boolean() }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('ring' as const), context: fc.nat(contexts + 2), value: fc.nat(3) }) },
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant('map' as const), piece: fc.nat(500), access: fc.constantFrom(0, 0, 1, 2, 3, 3, 3) }),
    },
    {
      weight: 5,
      arbitrary: fc.record({ kind: fc.constant('start' as const), context: any, ring: fc.constantFrom(true, true, true, false) }),
    },
    {
      weight: large ? 5 : 2,
      arbitrary: fc.record({
        kind: fc.constant('stop' as const),
        hard: fc.boolean(),
        reset: fc.constantFrom(false, false, false, true),
        steps: fc.nat(4),
        escalate: fc.constantFrom(false, false, true),
      }),
    },
    { weight: 1, arbitrary: fc.constant<Event>({ kind: 'flr' }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('log' as const),
        what: fc.constantFrom('clear' as const, 'read' as const, 'off' as const, 'on' as const, 'quiet' as const, 'loud' as const),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('limits' as const),
        maxContext: fc.constantFrom(63, 63, 0xffff, 1, 0),
        maxBuffer: fc.constantFrom(11, 11, 15, 0),
        maxAkey: fc.constantFrom(8, 8, 0),
        opGroups: fc.constantFrom(0x18, 0x18, 0xffff_ffff, 0x08, 0),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('poke' as const),
        context: any,
        what: fc.constantFrom(
          ...(['l2', 'l1', 'ctl', 'size', 'akeys', 'state', 'behind', 'beyond', 'huge', 'key'] as const satisfies (Event & {
            kind: 'poke';
          })['what'][]),
        ),
      }),
    },
  );
  return fc.array(event, { minLength: 4, maxLength: events, size: 'max' });
};

// ---- From words to bytes

type Stretch = Place['data'][number];

/** The stretch that an operand lies in; one that is large enough, if there is one. */
function stretch(place: Place, { key, segment }: Operand, size: number): Stretch {
  const list = key === 7 && place.far.length > 0 ? place.far : place.data;
  const chosen = list[segment % list.length];
  return chosen.length >= size ? chosen : (list.find(({ length }) => length >= size) ?? chosen);
}

function resolve(place: Place, operand: Operand, size: number): bigint {
  const { anchor, shift, wild } = operand;
  if (wild !== undefined) return wild;
  const inside = (start: number, length: number) => BigInt(start + (Math.abs(shift) % Math.max(1, length - size + 1)));
  if (anchor === 'csb') return inside(place.csbs, CSBS * 32);
  if (anchor === 'ring') return inside(place.ring, place.setup.ringEntries * 64);
  const { start, length } = stretch(place, operand, size);
  const off = Math.abs(shift) < 10 ? shift : 0;
  if (anchor === 'start') return BigInt(Math.max(0, start + off));
  if (anchor === 'end') return BigInt(Math.max(0, start + length - size + off));
  return inside(start, length);
}

/** What a data operation may write to: never its own ring, whose bytes are the producer's. */
function target(operand: Operand): Operand {
  return operand.anchor === 'ring' ? { ...operand, anchor: 'inside' } : operand;
}

/** The operation as it is meant for this context: without anything wrong, unless it is evil. */
export function meant(op: Op, place: Place): Op {
  if (op.evil) return op;
  const near = place.structurePasid === place.dataPasid;
  const tame = (operand: Operand): Operand => {
    const { key, anchor, shift } = operand;
    return {
      ...operand,
      key: key === 7 && place.far.length > 0 ? 7 : 0,
      anchor: (anchor === 'csb' || anchor === 'ring') && (!near || key === 7) ? 'inside' : anchor,
      shift: anchor === 'start' || anchor === 'end' ? 0 : shift,
      wild: undefined,
    };
  };
  const kind = op.kind === 'weird' || (op.kind === 'admin' && place.number !== 0) ? 'copy' : op.kind;
  const block: Block = { ...op.block, kind: op.block.kind === 'wild' || (op.block.kind === 'data' && !near) ? 'fresh' : op.block.kind };
  return { ...op, kind, flags: op.flags & ~8, block, from: tame(op.from), to: tame(op.to) };
}

/**
 * One descriptor as 64 bytes with vl = 1, written by hand after ref §5: no encoder of the package is involved, because those
 * refuse what is wrong with many of these.
 * @param block address of the completion block that a `fresh` one takes
 */
export function encode(op: Op, place: Place, block: number): Buffer {
  const d = Buffer.alloc(64);
  d[0] = 1 | op.flags;
  const { bits, code } = op;
  const fault = op.evil ? bits % 8 : -1;
  const size = op.kind === 'imm' ? (fault === 0 ? op.size : ((op.size - 1) % 32) + 1) : fitting(op, place);
  d.writeUInt32LE(size - 1, 4);
  if (op.kind !== 'admin') {
    // Reserved bits and hints mean nothing (S-1, S-18).
    d[8] = bits;
    d.writeUInt16LE(op.from.key, 12);
    d.writeUInt16LE(op.to.key, 14);
  }
  switch (op.kind) {
    case 'nop':
      header(d, 1, 1);
      break;
    case 'copy':
      header(d, 1, 3);
      d.writeBigUInt64LE(resolve(place, op.from, size), 16);
      d.writeBigUInt64LE(resolve(place, target(op.to), size), 24);
      break;
    case 'repcopy':
      header(d, 1, 4);
      d.writeBigUInt64LE(resolve(place, op.from, 4096), 16);
      d.writeBigUInt64LE(resolve(place, target(op.to), size), 24);
      break;
    case 'imm':
      header(d, 1, 2);
      d.writeUInt16LE(op.to.key, 12);
      d.writeBigUInt64LE(resolve(place, target(op.to), size), 16);
      for (let i = 0; i < 4; i++) d.writeBigUInt64LE(op.operands[i & 1] ^ BigInt(i), 24 + 8 * i);
      break;
    case 'atomic': {
      const width = fault === 1 ? 2 : bits & 2 ? 8 : 4;
      const mask = fault === 5 ? ~1n : ~BigInt(width - 1);
      header(d, 3, fault === 7 ? code : [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14][code % 13]);
      d.writeUInt32LE(width - 1, 4);
      d[9] = bits & 8 ? 0xff : 0xfe;
      const aligned = (operand: Operand) => BigInt.asUintN(64, resolve(place, target(operand), 16) + 7n) & mask;
      d.writeBigUInt64LE(aligned(op.to), 16);
      d.writeBigUInt64LE(aligned(op.from), 24);
      d.writeBigUInt64LE(op.operands[0], 32);
      d.writeBigUInt64LE(op.operands[1], 40);
      d.writeUInt16LE(op.to.key, 12);
      d.writeUInt16LE(op.from.key, 14);
      break;
    }
    case 'intr':
      header(d, 4, fault === 0 ? 1 : 0);
      d.writeUInt16LE(op.evil ? op.from.key : 4, 12);
      break;
    case 'admin':
      admin(d, op);
      break;
    case 'weird':
      header(d, [0, 1, 2, 3, 4, 5, 0x7f7, 0x7ff][code & 7], code);
      break;
  }
  footer(d, op.block, place, block);
  return d;
}

/** Operations fit into memory. */
function fitting({ kind, size, from, to, evil }: Op, place: Place): number {
  if (evil) return size;
  const room = stretch(place, to, size).length;
  return Math.min(size, room, kind === 'copy' ? stretch(place, from, size).length : room);
}

function header(d: Buffer, type: number, subtype: number): void {
  d[1] = subtype;
  d.writeUInt16LE(type, 2);
}

function admin(d: Buffer, { code, bits, first, last, evil }: Op): void {
  // START, STOP and SYNC more often than the rest.
  const subtype = [3, 3, 3, 8, 8, 4, 4, 4, 6, 6, 1, 2, 7, 0, 5, evil ? bits & 15 : 3][code & 15];
  header(d, 2, subtype);
  d[4] = subtype === 6 ? [1, 1, 1, 0, 2, 3, 4, evil ? 5 : 0][bits & 7] : bits & 7;
  d[5] = (bits & 0x10 ? 0x20 : 0) | (bits & 0x20 ? 0x40 : 0) | (evil && bits & 2 ? 0x80 : 0);
  d.writeUInt16LE(first, 8);
  d.writeUInt16LE(evil && bits >>> 2 === 1 ? Math.max(0, first - 1) : first + (bits & 0x40 ? last : 0), 10);
  d.writeUInt16LE(bits & 15, 12);
  d.writeUInt16LE(evil && bits >>> 2 === 2 ? (bits & 15) - 1 : bits & 15, 14);
}

function footer(d: Buffer, { kind }: Block, place: Place, block: number): void {
  let address = block;
  if (kind === 'none') {
    // Without a block the rest of the field means nothing.
    d.fill(0xff, 56);
    return;
  }
  if (kind === 'data') {
    const { start, length } = place.data[0];
    address = start + (length >>> 1);
  } else if (kind === 'wild') {
    address = 0x6000_0000;
  }
  // Bits 4:1 are reserved.
  d.writeBigUInt64LE(BigInt(address - (address % 32) + 0x1e), 56);
}
