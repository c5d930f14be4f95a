/** Function groups and remote keys: ref §7.1 item 3, §7.2, S-29, S-38, S-56, S-57, S-58, S-97, S-98, S-99, S-111. */
import { describe, expect, it } from 'vitest';
import type { FunctionConfig } from '../../src/function/config.js';
import { Fabric } from '../../src/function/fabric.js';
import { Access } from '../../src/memory/address-space.js';
import { AtomicOp, ContextState, FunctionState, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { atomic, copy, FILTER, interrupt, repcopy, rkeyUpdate, sync, writeImmediate } from './ops.js';
import { type ContextPlace, type Encode, LAYOUT, Rig, type RigOptions } from './rig.js';

const { RUN, ERR_FN } = ContextState;
const GROUP = 7;
const TABLE = BigInt(LAYOUT.rkeys | 1); // en = 1, sz = 0: 256 entries

interface Member {
  rig: Rig;
  admin: ContextPlace;
}

/** A function of a group, ACTIVE, its RKey table in force. */
function member(fabric: Fabric, config: Partial<FunctionConfig>, options: RigOptions = {}): Member {
  const rig = new Rig({ groupId: GROUP, ...config }, { fabric, ...options });
  rig.setReg(Reg.RKEY, TABLE);
  const admin = activate(rig);
  return { rig, admin };
}

/** {@link Rig.activate} writes CTL0 whole, and so leaves the group. */
function activate(rig: Rig, groupId = GROUP): ContextPlace {
  const admin = rig.prepare(0, { state: RUN });
  rig.program();
  rig.setReg(Reg.CTL0, (BigInt(groupId) << 32n) | 3n);
  rig.fn.ringDoorbell(0, 0);
  rig.drain();
  return admin;
}

function stopFunction(rig: Rig): void {
  rig.setReg(Reg.CTL0, (BigInt(GROUP) << 32n) | 2n);
  rig.drain();
}

/** The requester B (sfunc 2) and its target C (sfunc 3), which consents to data under RKey 5. */
function pair(options: { b?: Partial<FunctionConfig>; c?: Partial<FunctionConfig>; pages?: boolean } = {}) {
  const fabric = new Fabric();
  const b = member(fabric, { sfunc: 2, ...options.b });
  const c = member(fabric, { sfunc: 3, ...options.c }, { pages: options.pages });
  const p = b.rig.running(1);
  b.rig.akey(p, 1, { vl: 1, tgt_sfunc: 3, rkey: 5 });
  c.rig.rkey(5, { vl: 1, req_sfunc: 2 });
  b.rig.bytes(LAYOUT.data, 4096).fill(0xb0);
  c.rig.bytes(LAYOUT.data, 4096).fill(0xc0);
  return { fabric, b: b.rig, c: c.rig, p, adminB: b.admin, adminC: c.admin };
}

const there = LAYOUT.data + 0x1000;

describe('remote keys (ref §7.1 item 3)', () => {
  it('ref §7.1 a function copies from its own space into that of another', () => {
    const { b, c, p } = pair();
    b.run(p, copy(LAYOUT.data, there, 4096, { akey1: 1, csb: b.csb(p) }));
    expect(c.bytes(there, 4096).every((byte) => byte === 0xb0)).toBe(true);
    expect(b.bytes(there, 4096).every((byte) => byte === 0)).toBe(true);
    expect(b.hex(p.csbs, 32)).toBe(CSB.done);
    expect([...b.records(), ...c.records()]).toEqual([]);
  });

  it('ref §10 three parties: B copies from A to C, with a consent of each', () => {
    const { fabric, b, c, p } = pair();
    const { rig: a } = member(fabric, { sfunc: 1 });
    a.rkey(0, { vl: 1, req_sfunc: 2 });
    b.akey(p, 2, { vl: 1, tgt_sfunc: 1, rkey: 0 });
    a.bytes(LAYOUT.data, 300_000).forEach((_, i, bytes) => {
      bytes[i] = i % 251;
    });
    const untouched = b.snapshot();
    b.run(p, copy(LAYOUT.data, LAYOUT.data, 300_000, { akey0: 2, akey1: 1 }));
    expect(c.bytes(LAYOUT.data, 300_000)).toEqual(a.bytes(LAYOUT.data, 300_000));
    expect(untouched.subarray(b.at(LAYOUT.data)).equals(b.snapshot().subarray(b.at(LAYOUT.data)))).toBe(true);
  });

  it.each<[string, Encode, number, string]>([
    ['REPCOPY', repcopy(LAYOUT.data, there, 5000, { akey1: 1 }), 5000, 'b0'],
    ['WRT_IMM', writeImmediate(there, [0x11, 0x11, 0x11], { akey0: 1 }), 3, '11'],
  ])('ref §7.1 %s writes into the space of another', (_name, encode, length, byte) => {
    const { b, c, p } = pair();
    b.run(p, encode);
    expect(c.hex(there, length + 1)).toBe(`${byte.repeat(length)}00`);
  });

  it('ref §7.1 an atomic works on the space of another, and returns the old value into the own one', () => {
    const { b, c, p } = pair();
    c.putU64(there, 40n);
    b.run(p, atomic(AtomicOp.UADD, 8, there, { a: 2n, returned: LAYOUT.data + 8, akey0: 1 }));
    expect(c.u64(there)).toBe(42n);
    expect(b.u64(LAYOUT.data + 8)).toBe(40n);
  });

  it('S-38 the own sfunc is a remote target too: the own RKey table decides', () => {
    const { b, p } = pair();
    b.akey(p, 2, { vl: 1, tgt_sfunc: 2, rkey: 9 });
    b.run(p, copy(LAYOUT.data, there, 16, { akey1: 2 }));
    expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 0, operand: 1 })]);
    b.rkey(9, { vl: 1, req_sfunc: 2 });
    b.setState(p, RUN);
    b.run(p, copy(LAYOUT.data, there, 16, { akey1: 2 }));
    expect(b.hex(there, 16)).toBe('b0'.repeat(16));
  });

  it('S-38 an overlap through the own sfunc is copied as if read first', () => {
    const { b, p } = pair();
    b.akey(p, 2, { vl: 1, tgt_sfunc: 2, rkey: 9 });
    b.rkey(9, { vl: 1, req_sfunc: 2 });
    b.put(LAYOUT.data, [1, 2, 3, 4, 5, 6]);
    b.run(p, copy(LAYOUT.data, LAYOUT.data + 2, 4, { akey1: 2 }));
    expect(b.hex(LAYOUT.data, 6)).toBe('010201020304');
  });

  it('S-29 with a PASID that both name, the space is that of the PASID in the target', () => {
    const { b, c, p } = pair();
    c.map(LAYOUT.data + 0x2000, 4096, { at: there, pasid: 77 });
    b.akey(p, 1, { vl: 1, pv: 1, pasid: 77, tgt_sfunc: 3, rkey: 5 });
    c.rkey(5, { vl: 1, pv: 1, pasid: 77, req_sfunc: 2 });
    b.run(p, copy(LAYOUT.data, there, 4096, { akey1: 1 }));
    expect(c.hex(LAYOUT.data + 0x2000, 16)).toBe('b0'.repeat(16));
    expect(c.hex(there, 16)).toBe('00'.repeat(16));
  });
});

describe('refused remote accesses (ref §7.1 item 3, step 12)', () => {
  type Harm = (setup: ReturnType<typeof pair>) => void;
  const cases: [string, Harm, number][] = [
    ['ref §7.1 no function answers to the handle', ({ b, p }) => b.akey(p, 1, { vl: 1, tgt_sfunc: 4, rkey: 5 }), 3],
    ['ref §7.1 the target is in another group', ({ c }) => c.setReg(Reg.CTL0, (8n << 32n) | 3n), 3],
    ['ref §7.1 the target is not ACTIVE', ({ c }) => stopFunction(c), 3],
    ['ref §7.1 the target has not enabled its RKeys', ({ c }) => c.setReg(Reg.RKEY, TABLE & ~1n), 3],
    ['ref §7.1 the RKey lies beyond the table', ({ b, p }) => b.akey(p, 1, { vl: 1, tgt_sfunc: 3, rkey: 256 }), 3],
    ['ref §7.1 vl = 0', ({ c }) => c.rkey(5, { vl: 0, req_sfunc: 2 }), 3],
    ['ref §7.1 the consent is for another requester', ({ c }) => c.rkey(5, { vl: 1, req_sfunc: 4 }), 3],
    ['S-29 the AKey names a PASID, the RKey none', ({ b, p }) => b.akey(p, 1, { vl: 1, pv: 1, pasid: 7, tgt_sfunc: 3, rkey: 5 }), 3],
    ['S-29 the RKey names a PASID, the AKey none', ({ c }) => c.rkey(5, { vl: 1, pv: 1, pasid: 7, req_sfunc: 2 }), 3],
    [
      'S-29 they name different PASIDs',
      ({ b, c, p }) => {
        b.akey(p, 1, { vl: 1, pv: 1, pasid: 7, tgt_sfunc: 3, rkey: 5 });
        c.rkey(5, { vl: 1, pv: 1, pasid: 8, req_sfunc: 2 });
      },
      3,
    ],
    ['S-58 the RKey table is not mapped', ({ c }) => c.unmap(LAYOUT.rkeys), 1],
    ['S-58 the RKey table cannot be read', ({ c }) => c.protect(LAYOUT.rkeys, Access.WRITE), 2],
    ['S-97 the requester has left its group', ({ b }) => b.setReg(Reg.CTL0, 3n), 3],
  ];

  it.each(cases)('%s: step 12, er, ERR_FN, nothing written', (_name, harm, sub) => {
    const setup = pair({ pages: true });
    const { b, c, p } = setup;
    harm(setup);
    const before = c.snapshot();
    b.run(p, copy(LAYOUT.data, there, 64, { akey1: 1, csb: b.csb(p) }));
    expect(b.records()).toEqual([record({ step: 12, sub, context: 1, index: 0, operand: 1 })]);
    expect(b.hex(p.csbs, 32)).toBe(CSB.failed);
    expect(b.hex(p.status, 16)).toBe(status(ERR_FN, 1));
    expect(c.snapshot().equals(before)).toBe(true);
    expect(c.records()).toEqual([]);
  });

  it('ref §7.1 without rkey_cap the requester reaches nobody; a target without it is not reached', () => {
    for (const options of [{ b: { rkeyCap: false } }, { c: { rkeyCap: false } }]) {
      const { b, p } = pair(options);
      b.run(p, copy(LAYOUT.data, there, 64, { akey1: 1 }));
      expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 0, operand: 1 })]);
    }
  });

  it('S-97 fn_grp_id 0 is no group: a function reaches itself by its own sfunc, and nobody else', () => {
    const fabric = new Fabric();
    const { rig: b } = member(fabric, { sfunc: 2 });
    const { rig: c } = member(fabric, { sfunc: 3 });
    for (const rig of [b, c]) rig.setReg(Reg.CTL0, 3n);
    const p = b.running(1);
    b.rkey(0, { vl: 1, req_sfunc: 2 });
    c.rkey(0, { vl: 1, req_sfunc: 2 });
    b.akey(p, 1, { vl: 1, tgt_sfunc: 2, rkey: 0 });
    b.akey(p, 2, { vl: 1, tgt_sfunc: 3, rkey: 0 });
    b.run(p, writeImmediate(there, [1], { akey0: 1 }), writeImmediate(there + 1, [1], { akey0: 2 }));
    expect(b.hex(there, 2)).toBe('0100');
    expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 1, operand: 0 })]);
  });

  it('S-98 the table of the target counts, within what its CAP0 allows; the AKeys and the size limit of the requester', () => {
    const { b, c, p } = pair({ b: { maxBuffer: 0, maxRkey: 0 }, c: { maxRkey: 0, maxBuffer: 11 } });
    c.setReg(Reg.RKEY, TABLE | (3n << 1n)); // claims 2,048 entries, 256 are allowed
    b.akey(p, 2, { vl: 1, tgt_sfunc: 3, rkey: 256 });
    b.run(p, writeImmediate(there, [1], { akey0: 2 }));
    expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 0, operand: 0 })]);
    b.setState(p, RUN);
    b.run(p, copy(LAYOUT.data, there, 2 ** 21 + 1, { akey1: 1 }));
    expect(b.records().at(-1)).toBe(record({ step: 7, sub: 3, context: 1, index: 1 }));
  });

  it('S-98 two functions with one sfunc: refused when they are made, found by nobody when CTL0 brings them together', () => {
    const { fabric, b, p } = pair();
    expect(() => new Rig({ sfunc: 3, groupId: GROUP }, { fabric })).toThrow(/handle 3/);
    const { rig: twin } = member(fabric, { sfunc: 3, groupId: 9 });
    twin.setReg(Reg.CTL0, (BigInt(GROUP) << 32n) | 3n);
    b.run(p, writeImmediate(there, [1], { akey0: 1 }));
    expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 0, operand: 0 })]);
  });

  it('ref §7.1 item 4: an address that the target has not mapped, or not for writing, is step 10 at the requester', () => {
    for (const [harm, sub] of [
      [(c: Rig) => c.unmap(there), 1],
      [(c: Rig) => c.protect(there, Access.READ), 2],
    ] as const) {
      const { b, c, p } = pair({ pages: true });
      harm(c);
      b.run(p, copy(LAYOUT.data, there, 64, { akey1: 1 }));
      expect(b.records()).toEqual([record({ step: 10, sub, context: 1, index: 0, operand: 1 })]);
      expect(c.records()).toEqual([]);
    }
  });

  it('S-99 the target stops in the middle of a copy: step 10 / sub 2 at the next slice', () => {
    const { b, c, p } = pair();
    const size = 2 ** 20;
    b.queue(p, copy(LAYOUT.data, LAYOUT.data, size, { akey1: 1, csb: b.csb(p) }));
    b.fn.step(1);
    expect(b.readIndex(p)).toBe(0);
    stopFunction(c);
    expect(c.fn.state).toBe(FunctionState.STOP);
    const before = c.snapshot();
    b.drain();
    expect(b.records()).toEqual([record({ step: 10, sub: 2, context: 1, index: 0, operand: 1 })]);
    expect(b.hex(p.csbs, 32)).toBe(CSB.failed);
    expect(c.snapshot().equals(before)).toBe(true);
  });
});

describe('consent that is taken back in the middle of a copy (S-112)', () => {
  type Revoke = (setup: ReturnType<typeof pair>) => void;
  const set = (rig: Rig, register: number, ...values: bigint[]): void => {
    for (const value of values) rig.setReg(register, value);
  };
  const again = (rig: Rig, end: () => void): void => {
    end();
    rig.setReg(Reg.RKEY, TABLE);
    activate(rig);
  };
  it.each<[string, Revoke]>([
    ['the target was reset and is ACTIVE again', ({ c }) => again(c, () => c.fn.reset())],
    ['the target was stopped and started again', ({ c }) => again(c, () => stopFunction(c))],
    ['RKEY.en was cleared and set again', ({ c }) => set(c, Reg.RKEY, TABLE & ~1n, TABLE)],
    ['the target changed its group and came back', ({ c }) => set(c, Reg.CTL0, (8n << 32n) | 3n, (7n << 32n) | 3n)],
    ['the target has left the fabric', ({ c }) => c.fn.disconnect()],
    ['RKEY_UPD and SYNC.RKEY have completed', ({ c, adminC }) => void c.run(adminC, rkeyUpdate([5, 5]), sync(FILTER.RKEY))],
  ])('S-112 %s: step 10 / sub 2 at the next slice, nothing more is written', (_name, revoke) => {
    const setup = pair();
    const { b, c, p } = setup;
    b.queue(p, copy(LAYOUT.data, LAYOUT.data, 2 ** 20, { akey1: 1, csb: b.csb(p) }));
    b.fn.step(1);
    revoke(setup);
    const before = c.snapshot();
    b.drain();
    expect(b.records()).toEqual([record({ step: 10, sub: 2, context: 1, index: 0, operand: 1 })]);
    expect(c.snapshot().equals(before)).toBe(true);
  });

  it('S-106 a fill whose block came from another function needs that function no more', () => {
    const { b, c, p } = pair();
    b.queue(p, repcopy(LAYOUT.data, LAYOUT.data, 2 ** 20, { akey0: 1, csb: b.csb(p) }));
    b.fn.step(1);
    stopFunction(c);
    b.drain();
    expect(b.records()).toEqual([]);
    expect(b.hex(LAYOUT.data + 2 ** 20 - 4, 4)).toBe('c0c0c0c0');
  });
});

describe('remote interrupts (ref §7.2)', () => {
  it('S-57 the RKey grants the vector of the target; iv and intr_num of the AKey mean nothing (S-111)', () => {
    const { b, c, p } = pair();
    c.rkey(5, { vl: 1, iv: 1, intr_num: 9, req_sfunc: 2 });
    b.akey(p, 2, { vl: 1, iv: 1, intr_num: 44, tgt_sfunc: 3, rkey: 5 });
    b.run(p, interrupt(1), interrupt(2, { csb: b.csb(p) }));
    expect(c.interrupts).toEqual([9, 9]);
    expect(b.interrupts).toEqual([]);
    expect(c.fn.counters.interrupts).toBe(2);
    expect(b.hex(p.csbs, 32)).toBe(CSB.done);
  });

  it.each<[string, Record<string, number>]>([
    ['ref §7.2 the RKey grants no interrupt', { vl: 1, req_sfunc: 2 }],
    ['S-94 a vector that the target does not have', { vl: 1, iv: 1, intr_num: 66, req_sfunc: 2 }],
    ['ref §7.2 the consent is for another requester', { vl: 1, iv: 1, intr_num: 9, req_sfunc: 3 }],
  ])('%s: step 12 / sub 3, no message', (_name, entry) => {
    const { b, c, p } = pair();
    c.rkey(5, entry);
    b.run(p, interrupt(1));
    expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 0, operand: 0 })]);
    expect(c.interrupts).toEqual([]);
  });
});

describe('RKey tables that change', () => {
  it('S-108 a changed RKey counts from the next lookup on; RKEY_UPD and SYNC.RKEY complete', () => {
    const { b, c, p, adminC } = pair();
    b.run(p, writeImmediate(there, [1], { akey0: 1 }));
    c.rkey(5, { vl: 0 });
    c.run(adminC, rkeyUpdate([5, 5]), sync(FILTER.RKEY, 0, 0, { csb: c.csb(adminC) }));
    expect(c.hex(adminC.csbs, 32)).toBe(CSB.done);
    b.run(p, writeImmediate(there, [2], { akey0: 1 }));
    expect(c.hex(there, 1)).toBe('01');
    expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 1, operand: 0 })]);
  });
});

describe('RKey tables with a cache (ref §4.11)', () => {
  it.each(['sticky', 'start'] as const)('ref §4.11 cache=%s: the target keeps its RKey entry until RKEY_UPD', (cache) => {
    const { b, c, p, adminC } = pair({ c: { cache } });
    b.run(p, writeImmediate(there, [1], { akey0: 1 }));
    c.rkey(5, { vl: 0 });
    b.run(p, writeImmediate(there, [2], { akey0: 1 }));
    expect(c.hex(there, 1)).toBe('02');
    c.run(adminC, rkeyUpdate([5, 5]));
    b.run(p, writeImmediate(there, [3], { akey0: 1 }));
    expect(c.hex(there, 1)).toBe('02');
    expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 2, operand: 0 })]);
  });

  it('O-15 an RKey entry with vl = 0 is not kept', () => {
    const { b, c, p } = pair({ c: { cache: 'sticky' } });
    c.rkey(5, { vl: 0 });
    b.run(p, writeImmediate(there, [1], { akey0: 1 }));
    c.rkey(5, { vl: 1, req_sfunc: 2 });
    b.setState(p, RUN);
    b.run(p, writeImmediate(there, [2], { akey0: 1 }));
    expect(c.hex(there, 1)).toBe('02');
  });

  it('S-1 strictReserved: a reserved bit of the RKey entry is step 12 / sub 3', () => {
    const { b, c, p } = pair({ b: { strictReserved: 'on' } });
    c.put(LAYOUT.rkeys + 16 * 5 + 15, [0x80]);
    b.run(p, writeImmediate(there, [1], { akey0: 1 }));
    expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 0, operand: 0 })]);
  });
});

describe('GRP_ENUM (S-4)', () => {
  it('S-4 busy reads 1 in the other functions of the group while one probes', () => {
    const { fabric, b, c } = pair();
    const { rig: stranger } = member(fabric, { sfunc: 2, groupId: 8 });
    stranger.setReg(Reg.CTL0, (8n << 32n) | 3n);
    b.setReg(Reg.GRP_ENUM, 2n);
    expect([b, c, stranger].map((rig) => rig.reg(Reg.GRP_ENUM))).toEqual([2n, 1n, 0n]);
    expect(c.fn.readRegister(Reg.GRP_ENUM, 4)).toBe(1n);
    b.setReg(Reg.GRP_ENUM, 0n);
    expect([b, c].map((rig) => rig.reg(Reg.GRP_ENUM))).toEqual([0n, 0n]);
  });

  it('a function that has left the fabric is found by nobody', () => {
    const { b, c, p } = pair();
    c.fn.disconnect();
    b.run(p, writeImmediate(there, [1], { akey0: 1 }));
    expect(b.records()).toEqual([record({ step: 12, sub: 3, context: 1, index: 0, operand: 0 })]);
  });
});
