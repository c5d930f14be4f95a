/** Interrupts: INTR (ref §5.5, §7.2), ADM_INTR (S-26), and what surrounds them. */
import { describe, expect, it } from 'vitest';
import { ContextState } from '../../src/spec/index.js';
import { CSB, failed, provoke, status } from './expect.js';
import { adminInterrupt, copy, FLAG, interrupt, nop } from './ops.js';
import { LAYOUT, Rig } from './rig.js';

function ready(vectors = 66) {
  const rig = new Rig({}, { vectors });
  const admin = rig.activate();
  return { rig, admin, p: rig.running(1) };
}

describe('INTR', () => {
  it.each([0, 1, 33, 65])('O-17 raises vector %d, 0 included', (vector) => {
    const { rig, p } = ready();
    rig.akey(p, 9, { vl: 1, iv: 1, intr_num: vector });
    const csb = rig.csb(p);
    rig.run(p, interrupt(9, { csb }));
    expect(rig.interrupts).toEqual([vector]);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.records()).toEqual([]);
  });

  it.each([
    [2, 1, 'raised'],
    [2, 2, 'refused'],
    [2048, 2047, 'raised'],
    [66, 65, 'raised'],
    [66, 66, 'refused'],
    [66, 2047, 'refused'],
  ])('S-94 with %d vectors in the table, intr_num %d is %s: step 11 / sub 3', (vectors, vector, outcome) => {
    const { rig, p } = ready(vectors);
    rig.akey(p, 0, { vl: 1, iv: 1, intr_num: vector });
    const after = provoke(rig, p, (csb) => interrupt(0, { csb }));
    if (outcome === 'raised') expect([after.interrupts, after.csb]).toEqual([[vector], CSB.done]);
    else expect(after).toEqual(failed({ step: 11, sub: 3, context: 1, index: 0, operand: 0 }));
  });

  it('ref §7.2 only the AKey is read: its pv, pasid and the rest do not matter', () => {
    const { rig, p } = ready();
    rig.akey(p, 0, { vl: 1, iv: 1, pv: 1, ste: 1, intr_num: 5, pasid: 0xfffff, ph: 3, stag: 0xffff, rkey: 0xffff });
    rig.run(p, interrupt(0));
    expect(rig.interrupts).toEqual([5]);
  });

  it('S-56 INTR and COPY through a tgt_sfunc that nobody in the group answers to: step 12 / sub 3', () => {
    for (const tgt_sfunc of [2, 0xffff]) {
      for (const encode of [
        (csb: number) => interrupt(4, { csb }),
        (csb: number) => copy(LAYOUT.data, LAYOUT.data + 64, 8, { csb, akey0: 4 }),
      ]) {
        const { rig, p } = ready();
        rig.akey(p, 4, { vl: 1, iv: 1, tgt_sfunc, rkey: 3 });
        expect(provoke(rig, p, encode)).toEqual(failed({ step: 12, sub: 3, context: 1, index: 0, operand: 0 }));
      }
    }
  });

  it('ref §6.3 with fe = 1 it is raised after all earlier completion blocks are visible', () => {
    const { rig, p } = ready();
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 3 });
    const csbs = [0, 1, 2].map((n) => rig.csb(p, n));
    const seen: string[][] = [];
    rig.onInterrupt = () => seen.push(csbs.map((at) => rig.hex(at, 32)));
    rig.run(
      p,
      ...csbs.map((csb, n) => copy(LAYOUT.data, LAYOUT.data + 0x8_0000, n === 1 ? 0x6_0000 : 64, { csb })),
      interrupt(1, { flags: FLAG.FE }),
    );
    expect(seen).toEqual([[CSB.done, CSB.done, CSB.done]]);
  });

  it('ref §6.2 whoever is woken by an INTR finds Read_Index past every descriptor before it', () => {
    const { rig, p } = ready();
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 3 });
    const seen: number[] = [];
    rig.onInterrupt = () => seen.push(rig.readIndex(p));
    rig.run(p, ...Array.from({ length: 5 }, () => copy(LAYOUT.data, LAYOUT.data + 64, 64)), interrupt(1), nop(), interrupt(1));
    expect(seen).toEqual([5, 7]);
  });

  it('ref §8.4 vector 0 may be both: INTR and error interrupt do not disturb each other', () => {
    const { rig, p } = ready();
    const q = rig.running(2);
    rig.akey(p, 0, { vl: 1, iv: 1, intr_num: 0 });
    rig.run(p, interrupt(0));
    rig.run(q, copy(0, 0, 1));
    rig.run(p, interrupt(0));
    expect(rig.interrupts).toEqual([0, 0, 0]);
    expect(rig.hex(p.status, 16)).toBe(status(ContextState.RUN, 2));
  });
});

describe('ADM_INTR', () => {
  it.each([0, 7, 65])('S-26 raises vector %d from context 0, without a key', (vector) => {
    const { rig, admin } = ready();
    const csb = rig.csb(admin);
    rig.bytes(admin.akeys, 4096).fill(0);
    rig.run(admin, adminInterrupt(vector, { csb }));
    expect(rig.interrupts).toEqual([vector]);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('S-26 intr_num has 11 bits, the rest is reserved', () => {
    const { rig, admin } = ready();
    rig.run(admin, adminInterrupt(0xf807));
    expect(rig.interrupts).toEqual([7]);
  });

  it('S-94 a vector beyond the table: the descriptor is malformed', () => {
    const { rig, admin } = ready(2);
    expect(provoke(rig, admin, (csb) => adminInterrupt(2, { csb }))).toEqual(failed({ step: 7, sub: 3, context: 0, index: 0 }));
  });
});
