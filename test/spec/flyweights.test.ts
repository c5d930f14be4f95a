/** The two ways in which spec/ says everything agree: flyweights with literal offsets against the readable tables, on random bytes. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  AKEY_ENT,
  AkeyEnt,
  type AnyLayout,
  type AnyValue,
  ContextState,
  CST_BLK,
  CstBlk,
  CXT_CTL,
  CXT_L1_ENT,
  CXT_L2_ENT,
  CXT_STS,
  CxtCtl,
  CxtSts,
  Descriptor,
  DSC_GENERIC,
  ERRLOG_HD_ENT,
  ErrorRecord,
  type Flyweight,
  fromHex,
  L1Ent,
  L2Ent,
  OPERATIONS,
  toHex,
} from '../../src/spec/index.js';
import { structureBytes, wordsOf } from './arbitraries.js';

const PAIRS: [AnyLayout, Flyweight][] = [
  [CXT_L2_ENT, new L2Ent()],
  [CXT_L1_ENT, new L1Ent()],
  [CXT_CTL, new CxtCtl()],
  [CXT_STS, new CxtSts()],
  [AKEY_ENT, new AkeyEnt()],
  [CST_BLK, new CstBlk()],
  [ERRLOG_HD_ENT, new ErrorRecord()],
];

/** Stores that replace their whole word or byte on purpose, and have tests of their own below. */
const WHOLE_STORES = new Set(['CXT_STS.state', 'CST_BLK.er']);
/** Read only by name. */
const NO_SETTER = new Set(['CXT_STS.rsh']);
const NO_GETTER = new Set(['ERRLOG_HD_ENT.vendor']);

function camel(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_all, letter: string) => letter.toUpperCase());
}

function asNumber(value: AnyValue): number {
  return Number(value as bigint);
}

/** The structure at word 4 of a larger array, so that a wrong base shows. */
function placed(bytes: Uint8Array): Uint32Array {
  const u32 = new Uint32Array(bytes.length / 4 + 8).fill(0x5a5a5a5a);
  u32.set(wordsOf(bytes), 4);
  return u32;
}

function unplaced(u32: Uint32Array, length: number): string {
  expect(new Set([...u32.subarray(0, 4), ...u32.subarray(4 + length / 4)]), 'neighbours untouched').toEqual(new Set([0x5a5a5a5a]));
  return toHex(new Uint8Array(u32.buffer, 16, length));
}

describe.each(PAIRS.map(([layout, view]) => [layout.name, layout, view] as const))('%s', (_name, layout, view) => {
  const properties = view as unknown as Record<string, number>;
  const names = Object.keys(layout.fields).filter((name) => !NO_GETTER.has(`${layout.name}.${name}`));

  it('flyweight and table read the same from random bytes', () => {
    fc.assert(
      fc.property(structureBytes(layout), (bytes) => {
        const expected = layout.decode(bytes);
        view.at(placed(bytes), 4);
        for (const name of names) expect(properties[camel(name)], name).toBe(asNumber(expected[name]));
      }),
    );
  });

  for (const name of names) {
    if (WHOLE_STORES.has(`${layout.name}.${name}`) || NO_SETTER.has(`${layout.name}.${name}`)) continue;
    const field = layout.fields[name];

    it(`setting ${name} changes that field and nothing else`, () => {
      const width = field.highBit - field.lowBit + 1;
      // Values that reach a flyweight are exact numbers: below 2^53 (S-103).
      const highest = 2n ** BigInt(Math.min(width, field.kind === 'bigint' ? 53 - field.lowBit : 32)) - 1n;
      fc.assert(
        fc.property(structureBytes(layout), fc.bigInt({ min: 0n, max: highest }), (bytes, stored) => {
          const value = field.address ? stored << BigInt(field.lowBit) : stored;
          const u32 = placed(bytes);
          view.at(u32, 4);
          properties[camel(name)] = Number(value);
          expect(unplaced(u32, layout.byteLength)).toBe(toHex(layout.encode({ ...layout.decode(bytes), [name]: value })));
          expect(properties[camel(name)]).toBe(Number(value));
        }),
      );
    });
  }
});

describe('stores with a rule of their own', () => {
  it('ref §4.5 S-59 the state is one byte with the upper nibble 0, and byte 1 stays', () => {
    const u32 = placed(fromHex('f0ffffffffffffff ffffffffffffffff'));
    new CxtSts().at(u32, 4).state = ContextState.STOP_FN;
    expect(unplaced(u32, 16)).toBe(`04${'ff'.repeat(15)}`);
  });

  it('ref §4.5 the state goes where the words are, also when they move to other memory', () => {
    const view = new CxtSts();
    const memory = new ArrayBuffer(128);
    const windows = [new Uint32Array(memory, 0, 8), new Uint32Array(memory, 64, 8), new Uint32Array(8)];
    for (const u32 of windows) view.at(u32, 4).state = ContextState.ERR_FN;
    for (const u32 of windows) expect([...u32]).toEqual([0, 0, 0, 0, 0xf, 0, 0, 0]);
    expect(new Uint32Array(memory).filter((w) => w !== 0).length).toBe(2);
  });

  it('S-73 er is one 4-byte store of 0x80000000', () => {
    const u32 = placed(new Uint8Array(32).fill(0xff));
    new CstBlk().at(u32, 4).er = 1;
    expect(unplaced(u32, 32)).toBe(`${'ff'.repeat(8)}00000080${'ff'.repeat(20)}`);
  });

  it('S-110 an error record is cleared as a whole', () => {
    const u32 = placed(new Uint8Array(64).fill(0xff));
    new ErrorRecord().at(u32, 4).clear();
    expect(unplaced(u32, 64)).toBe('00'.repeat(64));
  });
});

describe('Descriptor', () => {
  const view = new Descriptor();
  const properties = view as unknown as Record<string, number>;
  const ALIASES: Record<string, string> = { akey: 'akey0' };
  /** Read in another form than the table's: bytes by place, CXT_UPD's three bits together, attr with both halves also where one is used. */
  const OTHERWISE = new Set(['attr', 'body', 'data', 'l2', 'l1', 'ctl', 'operand_a', 'operand_b']);
  const formats: AnyLayout[] = [DSC_GENERIC, ...new Set(OPERATIONS.map((op) => op.layout))];

  it.each(formats.map((of) => [of.name, of] as const))('%s: flyweight and table read the same from random bytes', (_name, of) => {
    fc.assert(
      fc.property(structureBytes(of), (bytes) => {
        const expected = of.decode(bytes);
        view.at(placed(bytes), 4);
        for (const name of Object.keys(of.fields)) {
          if (!OTHERWISE.has(name)) expect(properties[ALIASES[name] ?? camel(name)], name).toBe(asNumber(expected[name]));
        }
        if ('l1' in expected)
          expect(view.cflags & 7).toBe(asNumber(expected.l2) | (asNumber(expected.l1) << 1) | (asNumber(expected.ctl) << 2));
        if ('attr' in expected) expect(view.attr & (2 ** (of.fields.attr.highBit + 1) - 1)).toBe(expected.attr);
        if ('operand_a' in expected) {
          expect((BigInt(view.operandAHi) << 32n) | BigInt(view.operandALo)).toBe(expected.operand_a);
          expect((BigInt(view.operandBHi) << 32n) | BigInt(view.operandBLo)).toBe(expected.operand_b);
        }
        if (expected.data instanceof Uint8Array) {
          expect(new Uint8Array(view.u32.buffer, view.dataWord * 4, 32)).toEqual(expected.data);
        }
      }),
    );
  });

  it('S-72 clearing vl leaves the rest of the slot as it was', () => {
    const u32 = placed(new Uint8Array(64).fill(0xff));
    view.at(u32, 4).vl = 0;
    expect(unplaced(u32, 64)).toBe(`fe${'ff'.repeat(63)}`);
  });
});
