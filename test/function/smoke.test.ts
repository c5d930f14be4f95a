import { describe, expect, it } from 'vitest';
import { ContextState, encodeContextStart, encodeCopy, encodeInterrupt, encodeNop, NO_CSB, DescriptorFlag } from '../../src/spec/index.js';
import { LAYOUT, Rig } from './rig.js';

describe('smoke', () => {
  it('starts a context and copies', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.prepare(1);
    const csb = rig.csb(admin);
    rig.run(admin, (u, w) => encodeContextStart(u, w, DescriptorFlag.FE, csb, { resume: false, first: 1, last: 1 }));
    expect(rig.records()).toEqual([]);
    expect(rig.completion(csb)).toEqual({ signal: 0n, er: false });
    expect(rig.state(p)).toBe(ContextState.RUN);
    rig.put(LAYOUT.data, [1, 2, 3, 4, 5]);
    const c2 = rig.csb(p);
    rig.run(p, (u, w) => encodeCopy(u, w, 0, c2, 5, 0, 0, LAYOUT.data, LAYOUT.data + 0x1001), (u, w) => encodeNop(u, w, 0, NO_CSB));
    expect([...rig.bytes(LAYOUT.data + 0x1001, 6)]).toEqual([1, 2, 3, 4, 5, 0]);
    expect(rig.readIndex(p)).toBe(2);
    rig.run(p, (u, w) => encodeInterrupt(u, w, 0, NO_CSB, 0));
    expect(rig.state(p)).toBe(ContextState.ERR_FN);
    expect(rig.records().length).toBe(1);
  });
  it('is fast enough inline', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const N = 1024;
    for (let round = 0; round < 3000; round++) {
      const first = Number(rig.u64(p.writeIndex));
      for (let i = 0; i < N; i++) {
        const w = rig.slotWord(p, first + i);
        rig.u32[w] = encodeCopy(rig.u32, w, 0, NO_CSB, 64, 0, 0, LAYOUT.data + (i & 63) * 64, LAYOUT.data + 0x10000 + (i & 63) * 64);
      }
      rig.putU64(p.writeIndex, first + N);
      const t = process.hrtime.bigint();
      rig.fn.ringDoorbell(1, 0);
      while (rig.fn.step(256) > 0);
      if (round % 1000 === 999) console.log('ns per 64B descriptor', Number(process.hrtime.bigint() - t) / N);
    }
  });
});
