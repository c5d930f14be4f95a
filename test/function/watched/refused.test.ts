/** What a watch refuses cannot be accessed (ref §7.1 item 4), and what it carries goes in the order of the function's writes. */
import { describe, expect, it } from 'vitest';
import { ContextState } from '../../../src/spec/index.js';
import { CSB, record, status } from '../expect.js';
import { atomic, copy, nop, repcopy, writeImmediate } from '../ops.js';
import { type ContextPlace, type Encode, LAYOUT, Rig } from '../rig.js';

const { RUN, ERR_FN } = ContextState;
const FROM = LAYOUT.data;
const TO = LAYOUT.data + 0x10_0000;
const SLICE = 256 * 1024;

function ready() {
  const rig = new Rig({}, { shadowed: true });
  rig.activate();
  const p = rig.running(1);
  rig.bytes(LAYOUT.data, LAYOUT.dataBytes).fill(1);
  return { rig, p, shadow: rig.shadow as NonNullable<typeof rig.shadow> };
}

/** Runs one descriptor of which a part is refused. @returns its record */
function refused(kind: 'access' | 'read' | 'wrote', from: number, to: number, make: (csb: number, p: ContextPlace) => Encode) {
  const { rig, p, shadow } = ready();
  const csb = rig.csb(p);
  const pieces: number[] = [];
  shadow.refuses = (what, address, length) => {
    if (what !== 'access') pieces.push(length);
    return what === kind && address < to && from < address + length;
  };
  rig.run(p, make(csb, p), nop());
  expect(rig.hex(csb, 32)).toBe(CSB.failed);
  expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 1));
  expect([rig.isValid(p, 0), rig.isValid(p, 1)]).toEqual([false, true]);
  expect(Math.max(0, ...pieces)).toBeLessThanOrEqual(SLICE);
  return { records: rig.records(), rig, p };
}

const dataFailure = (operand: number) => [record({ step: 10, sub: 2, context: 1, index: 0, operand })];

describe('a watch that refuses (ref §7.1 item 4)', () => {
  it('the source of a copy: step 10, sub 2, operand 0, and nothing is written', () => {
    const { records, rig } = refused('read', FROM, FROM + 1, (csb) => copy(FROM, TO, 5000, { csb }));
    expect(records).toEqual(dataFailure(0));
    expect(rig.bytes(TO, 5000).every((byte) => byte === 1)).toBe(true);
  });

  it('the destination of a copy: operand 1', () => {
    expect(refused('wrote', TO, TO + 1, (csb) => copy(FROM, TO, 64, { csb })).records).toEqual(dataFailure(1));
  });

  it('a later slice of a copy: what came before it stays', () => {
    const { records, rig } = refused('wrote', TO + SLICE, TO + SLICE + 1, (csb) => {
      return copy(FROM, TO, 0x8_0000, { csb });
    });
    expect(records).toEqual(dataFailure(1));
    expect(rig.fn.counters.bytes).toBe(SLICE);
  });

  it('a copy from the end', () => {
    expect(refused('read', FROM + SLICE, FROM + SLICE + 64, (csb) => copy(FROM, FROM + 64, 2 * SLICE, { csb })).records).toEqual(
      dataFailure(0),
    );
    expect(refused('wrote', FROM + SLICE, FROM + SLICE + 64, (csb) => copy(FROM, FROM + 64, 2 * SLICE, { csb })).records).toEqual(
      dataFailure(1),
    );
  });

  it('block and destination of a repeated copy', () => {
    expect(refused('read', FROM, FROM + 1, (csb) => repcopy(FROM, TO, 10_000, { csb })).records).toEqual(dataFailure(0));
    expect(refused('wrote', TO + 4096, TO + 4097, (csb) => repcopy(FROM, TO, 10_000, { csb })).records).toEqual(dataFailure(1));
    expect(refused('wrote', TO, TO + 1, (csb) => repcopy(FROM, TO, 20_000, { csb })).records).toEqual(dataFailure(1));
  });

  it('immediate data: operand 0 is where it goes', () => {
    expect(refused('wrote', TO, TO + 1, (csb) => writeImmediate(TO, [1, 2, 3], { csb })).records).toEqual(dataFailure(0));
  });

  it('the target of an atomic operation, and where its old value goes', () => {
    expect(refused('access', TO, TO + 8, (csb) => atomic(0x02, 8, TO, { csb, a: 1n })).records).toEqual(dataFailure(0));
    const { records } = refused('access', FROM, FROM + 8, (csb) => atomic(0x02, 8, TO, { csb, a: 1n, returned: FROM }));
    expect(records).toEqual([record({ step: 9, sub: 2, context: 1, index: 0, operand: 1 })]);
  });

  it('the AKey entry: step 11', () => {
    const { rig } = ready();
    const { akeys } = rig.place(1);
    expect(refused('access', akeys, akeys + 16, (csb) => copy(FROM, TO, 64, { csb })).records).toEqual([
      record({ step: 11, sub: 2, context: 1, index: 0, operand: 0 }),
    ]);
  });

  it('the completion block: step 8, and it stays as it was', () => {
    const { rig, p, shadow } = ready();
    const csb = rig.csb(p);
    shadow.refuses = (what, address) => what === 'access' && address === csb;
    rig.run(p, nop({ csb }));
    expect(rig.records()).toEqual([record({ step: 8, sub: 2, context: 1, index: 0 })]);
    expect([rig.hex(csb, 32), rig.hex(p.status, 16)]).toEqual([CSB.armed, status(ERR_FN, 1)]);
  });

  it.each([
    ['slot', 7, (p: ContextPlace) => p.ring],
    ['Write_Index', 6, (p: ContextPlace) => p.writeIndex],
  ])('the %s: step %i, and nothing is consumed', (_name, step, where) => {
    const { rig, p, shadow } = ready();
    shadow.refuses = (what, address) => what === 'access' && address === where(p);
    rig.run(p, nop());
    expect(rig.records().map((text) => Number.parseInt(text.slice(2, 4), 16))).toEqual([step]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 0));
  });

  it('S-75 CXT_STS: what was done stands, and the context leaves', () => {
    const { rig, p, shadow } = ready();
    rig.queue(p, nop(), nop());
    shadow.refuses = (what, address) => what === 'access' && address >= p.status && address < p.status + 16;
    rig.drain();
    expect(rig.records()).toHaveLength(1);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    expect(rig.fn.contexts().find(({ number }) => number === 1)?.running).toBe(false);
  });
});

describe('the order in which changes go (S-74)', () => {
  /** Where each dword that was sent lies. */
  function sent(run: (rig: Rig, p: ContextPlace, csb: number) => void): string[] {
    const { rig, p, shadow } = ready();
    const csb = rig.csb(p, 0, 7);
    const order: string[] = [];
    const names: [number, string][] = [
      [csb + 8, 'er'],
      [csb, 'signal'],
      [p.ring, 'vl'],
      [p.status + 8, 'Read_Index'],
      [p.status, 'state'],
    ];
    shadow.onSend = (at) => {
      const address = rig.addressOf(at);
      const log = address - LAYOUT.errorLog;
      order.push(names.find(([known]) => known === address)?.[1] ?? (log >= 0 && log < 64 ? `record ${log / 4}` : 'something else'));
    };
    run(rig, p, csb);
    return order;
  }

  it('S-74 signal, vl, Read_Index of a descriptor that completes', () => {
    expect(sent((rig, p, csb) => void rig.run(p, nop({ csb })))).toEqual(['signal', 'vl', 'Read_Index']);
    expect(sent((rig, p, csb) => void rig.run(p, copy(FROM, TO, 64, { csb })))).toEqual(['signal', 'vl', 'Read_Index']);
  });

  it('S-74 er before signal, vl, Read_Index, state, and the record with its first dword last', () => {
    const order = sent((rig, p, csb) => void rig.run(p, copy(0, TO, 64, { csb })));
    expect(order).toEqual(['er', 'signal', 'vl', 'Read_Index', 'state', 'record 1', 'record 0']);
  });

  it('three decrements of one block in one step take three away', () => {
    const { rig, p } = ready();
    const csb = rig.csb(p, 0, 7);
    rig.run(p, nop({ csb }), nop({ csb }), nop({ csb }));
    expect(rig.u64(csb)).toBe(4n);
  });
});
