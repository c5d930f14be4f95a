/** Option `pollInvalid`: a slot with vl = 0 is looked at again without a doorbell. Ref §6.2 step 2. */
import { describe, expect, it } from 'vitest';
import { ContextState, Reg } from '../../src/spec/index.js';
import { ready } from './data.js';
import { CSB, status } from './expect.js';
import { nop, stop } from './ops.js';
import type { ContextPlace, Rig, RigOptions } from './rig.js';

const { RUN, STOP_SW } = ContextState;

/** Context 1 waits on slot 0, which is claimed and not written. */
function waiting(pollInvalid: 'on' | 'off', options: RigOptions = {}, config = {}) {
  const made = ready(options, { pollInvalid, ...config });
  const { rig, p } = made;
  rig.claim(p, 1);
  rig.fn.ringDoorbell(1, 1);
  rig.drain();
  return { ...made, csb: rig.csb(p) };
}

/** The producer is late, and never rings again. */
const publish = (rig: Rig, p: ContextPlace, csb: number) => rig.write(p, 0, nop({ csb }));

describe('ref §6.2 step 2: a slot with vl = 0', () => {
  it('ref §6.2 pollInvalid=off: it waits for a doorbell', () => {
    const { rig, p, csb } = waiting('off');
    publish(rig, p, csb);
    rig.drain();
    expect([rig.hex(csb, 32), rig.fn.polls]).toEqual([CSB.armed, false]);
  });

  it.each([{}, { reorder: 'on' }])('ref §6.2 pollInvalid=on: the next step finds it (%j)', (config) => {
    const { rig, p, csb } = waiting('on', {}, config);
    publish(rig, p, csb);
    expect(rig.fn.step(64)).toBeGreaterThan(0);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('S-71 a context beyond CTL2.max_cxt is not looked at, as its doorbell would not be heard; it is again when it is allowed', () => {
    const { rig, p, csb } = waiting('on');
    const limits = rig.reg(Reg.CTL2);
    rig.setReg(Reg.CTL2, limits & 0xffff_ffff_0000_ffffn);
    publish(rig, p, csb);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.armed);
    rig.setReg(Reg.CTL2, limits);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('ref §6.2 a step that finds nothing returns 0, reads no table, and says that somebody waits', () => {
    const { rig } = waiting('on');
    const before = rig.fn.counters.loads;
    for (let i = 0; i < 10; i++) expect(rig.fn.step(64)).toBe(0);
    expect([rig.fn.polls, rig.fn.counters.loads]).toEqual([true, before]);
  });

  it('ref §6.2 an empty ring is not looked at: that takes a doorbell', () => {
    const { rig, p, csb } = waiting('on');
    publish(rig, p, csb);
    rig.drain();
    expect([rig.readIndex(p), rig.fn.polls]).toEqual([1, false]);
    const second = rig.csb(p, 1);
    rig.claim(p, 1);
    rig.write(p, 1, nop({ csb: second }));
    rig.drain();
    expect(rig.hex(second, 32)).toBe(CSB.armed);
  });

  it('S-77 a slot that cannot be read is waited for, without an error', () => {
    const { rig, p, csb } = waiting('on', { pages: true });
    publish(rig, p, csb);
    rig.unmap(p.ring);
    rig.drain();
    expect([rig.records(), rig.hex(p.status, 16)]).toEqual([[], status(RUN, 0)]);
    rig.map(p.ring);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('ref §6.5 a context that was stopped is not looked at any more', () => {
    const { rig, p, csb } = waiting('on');
    rig.run(rig.place(0), stop(1, 1));
    publish(rig, p, csb);
    rig.drain();
    expect([rig.hex(csb, 32), rig.hex(p.status, 16), rig.fn.polls]).toEqual([CSB.armed, status(STOP_SW, 0), false]);
  });

  it('ref §3.3 rule 8 in STOP no slot is read', () => {
    const { rig, p, csb } = waiting('on');
    rig.setReg(Reg.CTL0, 2);
    rig.drain();
    publish(rig, p, csb);
    expect([rig.fn.step(64), rig.fn.polls, rig.hex(csb, 32)]).toEqual([0, false, CSB.armed]);
  });

  it('O-18 many contexts wait, and each is found', () => {
    const { rig, p } = ready({}, { pollInvalid: 'on' });
    const places = [p, ...Array.from({ length: 14 }, (_, i) => rig.running(i + 2))];
    for (const place of places) {
      rig.claim(place, 1);
      rig.fn.ringDoorbell(place.number, 1);
    }
    rig.drain();
    for (const place of places.toReversed()) {
      publish(rig, place, rig.csb(place));
      rig.drain();
      expect(rig.readIndex(place)).toBe(1);
    }
  });
});
