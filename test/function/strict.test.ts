/** Option `strictReserved`: reserved bits of descriptors and table entries must be 0. S-1, F-23. */
import { describe, expect, it } from 'vitest';
import { hasReserved, RESERVED } from '../../src/function/reserved.js';
import { AKEY_ENT, type AnyLayout, ContextState, CXT_CTL, CXT_L1_ENT, CXT_L2_ENT, CXT_STS, OPERATIONS, Reg } from '../../src/spec/index.js';
import { DATA, ready } from './data.js';
import { CSB, record, status } from './expect.js';
import { atomic, copy, descriptor, type Footer, interrupt, nop, repcopy, writeImmediate } from './ops.js';
import { type ContextPlace, type Encode, Rig } from './rig.js';

const { RUN, ERR_FN } = ContextState;
const STRICT = { strictReserved: 'on' } as const;

/** Every reserved bit of a structure, counted from its first byte. */
function reservedBits({ reservedBits }: AnyLayout): number[] {
  return Array.from({ length: reservedBits.length * 8 }, (_, bit) => bit).filter(
    (bit) => ((reservedBits[bit >> 3] >> (bit & 7)) & 1) === 1,
  );
}

/** The ring from its beginning, an empty log, and a state from which a doorbell starts the context. */
function again(rig: Rig, p: ContextPlace): void {
  for (const register of [Reg.ERR_WRT, Reg.ERR_RD]) rig.setReg(register, 0);
  rig.putFields(CXT_STS, p.status, { state: RUN });
  rig.putU64(p.writeIndex, 0);
}

describe('S-1 the masks are those of the layouts', () => {
  it.each([
    [CXT_L2_ENT, 'bits 11:1', 11],
    [CXT_L1_ENT, 'bits 5:3 of byte 0, 11:4 of byte 8, 31:24 of byte 16, bytes 24 … 31', 3 + 8 + 8 + 64],
    [CXT_CTL, 'bit 1, bytes 12 … 15, low bits of two pointers, bytes 32 … 63', 1 + 32 + 4 + 3 + 256],
    [AKEY_ENT, 'bit 15, 61:52, 95:80, 127:112', 1 + 10 + 16 + 16],
  ])('ref §4 $name has the reserved bits of its table: %s', (layout, _where, count) => {
    expect(reservedBits(layout)).toHaveLength(count);
  });

  it('S-1 a mask finds each of its bits, and no other', () => {
    const mask = RESERVED.CXT_L1_ENT;
    const bits = reservedBits(CXT_L1_ENT);
    for (let bit = 0; bit < 256; bit++) {
      const entry = new Uint32Array(8);
      entry[bit >> 5] = 1 << (bit & 31);
      expect(hasReserved(entry, 0, mask)).toBe(bits.includes(bit));
    }
  });
});

describe('S-1 descriptors', () => {
  const make: [string, (footer: Footer) => Encode][] = [
    ['NOP', (footer) => nop(footer)],
    ['COPY', (footer) => copy(DATA, DATA + 64, 8, footer)],
    ['WRT_IMM', (footer) => writeImmediate(DATA, [1, 2, 3], footer)],
    ['REPCOPY', (footer) => repcopy(DATA, DATA + 4096, 64, footer)],
    ['UADD', (footer) => atomic(0x02, 8, DATA, footer)],
    ['INTR', (footer) => interrupt(1, footer)],
  ];
  const layoutOf = (name: string) => OPERATIONS.find((op) => op.name === name)?.layout as AnyLayout;
  const setup = (config: object) => {
    const made = ready({}, config);
    made.rig.akey(made.p, 1, { vl: 1, iv: 1, intr_num: 3 });
    return made;
  };

  it.each(make)('S-1 %s with all reserved bits 0 is done, whatever its fields are', (_name, encode) => {
    const { rig, p } = setup(STRICT);
    const csb = rig.csb(p);
    rig.run(p, encode({ csb, flags: 0x36 }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it.each(make)('F-23 %s: each reserved bit is an error of step 7 / sub 3, and without the option none', (name, encode) => {
    const strict = setup(STRICT);
    for (const bit of reservedBits(layoutOf(name))) {
      const spoiled: Encode = (u32, word) => {
        const header = encode({})(u32, word);
        u32[word + (bit >> 5)] |= 1 << (bit & 31);
        return bit < 32 ? (header | (1 << bit)) >>> 0 : header;
      };
      again(strict.rig, strict.p);
      strict.rig.run(strict.p, spoiled);
      expect([bit, strict.rig.records()]).toEqual([bit, [record({ step: 7, sub: 3, context: 1, index: 0 })]]);
      expect(strict.rig.hex(strict.p.status, 16)).toBe(status(ERR_FN, 1));
    }
    const { rig, p } = setup({});
    const words = new Uint32Array(layoutOf(name).reservedBits.slice().buffer);
    rig.run(p, (u32, word) => {
      const header = encode({})(u32, word);
      for (let i = 0; i < 16; i++) u32[word + i] |= words[i];
      return (header | words[0]) >>> 0;
    });
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });

  it('S-1 an admin descriptor, too', () => {
    const rig = new Rig(STRICT);
    const admin = rig.activate();
    rig.run(admin, descriptor(0x002, 0x05, { words: { 3: 0x800 } }));
    expect(rig.records()).toEqual([record({ step: 7, sub: 3, context: 0, index: 0 })]);
  });

  it('S-1 with np = 1 the pointer says nothing, and no bit of it is reserved', () => {
    const { rig, p } = ready({}, STRICT);
    rig.run(p, nop({ words: { 14: 0xffff_ffe1, 15: 0xffff_ffff } }));
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });
});

describe('S-1 table entries', () => {
  const tables: [string, AnyLayout, number, (rig: Rig, p: ContextPlace) => number][] = [
    ['CXT_L2_ENT', CXT_L2_ENT, 2, (rig) => rig.l2Entry(130)],
    ['CXT_L1_ENT', CXT_L1_ENT, 3, (rig) => rig.l1Entry(130)],
    ['CXT_CTL', CXT_CTL, 4, (_rig, p) => p.control],
  ];
  it.each(tables)(
    'F-23 %s: each reserved bit fails the load with its step / sub 3, and without the option none',
    (_name, layout, step, address) => {
      for (const strictReserved of ['on', 'off'] as const) {
        const rig = new Rig({ strictReserved, maxContext: 255 });
        rig.activate();
        const p = rig.prepare(130, { state: RUN });
        for (const bit of reservedBits(layout)) {
          const byte = rig.at(address(rig, p)) + (bit >> 3);
          again(rig, p);
          rig.u8[byte] |= 1 << (bit & 7);
          rig.run(p, nop());
          const strict = strictReserved === 'on';
          expect([bit, rig.records()]).toEqual([bit, strict ? [record({ step, sub: 3, context: 130 })] : []]);
          expect(rig.readIndex(p)).toBe(strict ? 0 : 1);
          // A good load in between: of several bad ones only the first is logged (S-36).
          rig.u8[byte] &= ~(1 << (bit & 7));
          rig.fn.ringDoorbell(130, 1);
          rig.drain();
        }
      }
    },
  );

  it('F-23 AKEY_ENT: each reserved bit is an error of step 11 / sub 3, and without the option none', () => {
    for (const strictReserved of ['on', 'off'] as const) {
      const { rig, p } = ready({}, { strictReserved });
      for (const bit of reservedBits(AKEY_ENT)) {
        const byte = rig.at(p.akeys) + (bit >> 3);
        again(rig, p);
        rig.u8[byte] |= 1 << (bit & 7);
        rig.run(p, copy(DATA, DATA + 64, 8));
        const expected = strictReserved === 'on' ? [record({ step: 11, sub: 3, context: 1, index: 0, operand: 0 })] : [];
        expect([bit, rig.records()]).toEqual([bit, expected]);
        rig.u8[byte] &= ~(1 << (bit & 7));
      }
    }
  });

  it('S-59 CXT_STS keeps its own rule: what is reserved there is ignored', () => {
    const { rig, p } = ready({}, STRICT);
    rig.bytes(p.status + 1, 7).fill(0xff);
    rig.run(p, nop());
    expect(rig.readIndex(p)).toBe(1);
  });
});
