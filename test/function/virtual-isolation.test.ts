/** What keeps a physical function and its virtual ones apart: memory, states, resets, snapshots. S-113, S-114, S-118. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SdxiError } from '../../src/errors.js';
import { SdxiFunction } from '../../src/function/function.js';
import { FunctionState, Reg } from '../../src/spec/index.js';
import { record } from './expect.js';
import { copy, nop, writeImmediate } from './ops.js';
import { LAYOUT } from './rig.js';
import { activeFamily as ready } from './virtual.js';

describe('isolation', () => {
  /** An address that only the PF has, and one that only VF 2 has; VF 1 has neither. */
  const PF_ONLY = 0x7_0000_0000;
  const VF2_ONLY = 0x7_1000_0000;

  it('S-113 an address that others have mapped is not translatable: nothing is read, nothing is written', () => {
    for (const foreign of [PF_ONLY, VF2_ONLY]) {
      for (const [encode, operand] of [
        [copy(foreign, LAYOUT.data, 64), 0],
        [copy(LAYOUT.data, foreign, 64), 1],
        [writeImmediate(foreign, Uint8Array.of(1, 2, 3)), 0],
      ] as const) {
        const { pf, vfs, drain } = ready();
        pf.map(LAYOUT.data, 4096, { at: PF_ONLY });
        vfs[1].map(LAYOUT.data, 4096, { at: VF2_ONLY });
        const others = [pf, vfs[1]].map((rig) => rig.snapshot());
        const [vf] = vfs;
        const p = vf.running(1);
        vf.bytes(LAYOUT.data, 64).fill(7);
        vf.queue(p, encode);
        drain();
        expect(vf.records()).toEqual([record({ step: 10, sub: 1, context: 1, index: 0, operand })]);
        expect(vf.hex(LAYOUT.data, 64)).toBe('07'.repeat(64));
        for (const [i, rig] of [pf, vfs[1]].entries()) expect(rig.snapshot().equals(others[i])).toBe(true);
      }
    }
  });

  it('S-113, S-97 a handle of the PF or of another VF leads nowhere without a group, and in a group only under an RKey', () => {
    for (const [group, sfunc, consent, done] of [
      [0, 1, true, false],
      [0, 3, true, false],
      [7, 1, false, false],
      [7, 3, true, true],
    ] as const) {
      const { pf, vfs, drain } = ready();
      for (const rig of [pf, ...vfs]) rig.setReg(Reg.CTL0, (BigInt(group) << 32n) | 3n);
      const [vf, other] = vfs;
      const target = sfunc === 1 ? pf : other;
      const p = vf.running(1);
      target.setReg(Reg.RKEY, LAYOUT.rkeys | 1);
      if (consent) target.rkey(2, { vl: 1, req_sfunc: 2 });
      vf.akey(p, 1, { vl: 1, tgt_sfunc: sfunc, rkey: 2 });
      target.bytes(LAYOUT.data, 64).fill(9);
      vf.queue(p, copy(LAYOUT.data, LAYOUT.data + 4096, 64, { akey0: 1 }));
      drain();
      expect(vf.hex(LAYOUT.data + 4096, 64)).toBe(done ? '09'.repeat(64) : '00'.repeat(64));
      expect(vf.records()).toHaveLength(done ? 0 : 1);
    }
  });

  /** Anything a guest may do to the registers, doorbells, rings and tables of its VF. */
  const HOSTILE = fc.array(
    fc.oneof(
      fc.record({
        kind: fc.constant('register' as const),
        offset: fc.constantFrom(...Object.values(Reg)),
        value: fc.bigInt(0n, 2n ** 64n - 1n),
      }),
      fc.record({ kind: fc.constant('doorbell' as const), context: fc.nat(64) }),
      fc.record({
        kind: fc.constant('memory' as const),
        at: fc.constantFrom<number>(LAYOUT.l2, LAYOUT.l1, LAYOUT.contexts, LAYOUT.contexts + 0x1_0000, LAYOUT.contexts + 0x2000),
        bytes: fc.uint8Array({ minLength: 1, maxLength: 128 }),
      }),
      fc.record({
        kind: fc.constant('descriptor' as const),
        words: fc.array(fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(PF_ONLY, LAYOUT.data, 0x0002_0401, 1)), {
          minLength: 16,
          maxLength: 16,
        }),
      }),
      fc.record({ kind: fc.constant('reset' as const) }),
      fc.record({ kind: fc.constant('step' as const) }),
    ),
    { maxLength: 30 },
  );

  it('S-113 whatever the guest of a VF does, others keep their memory, their states and their work', () => {
    fc.assert(
      fc.property(HOSTILE, (program) => {
        const { pf, vfs, admin, admins } = ready();
        const [vf, other] = vfs;
        const before = [pf, other].map((rig) => rig.snapshot());
        for (const act of program) {
          if (act.kind === 'register') vf.setReg(act.offset, act.value);
          else if (act.kind === 'doorbell') vf.fn.ringDoorbell(act.context, 1);
          else if (act.kind === 'memory') vf.put(act.at, act.bytes);
          else if (act.kind === 'reset') vf.fn.reset();
          else if (act.kind === 'step') for (let i = 0; i < 4; i++) vf.fn.step(16);
          else
            vf.queue(admins[0], (u32, word) => {
              u32.set(act.words, word);
              return (act.words[0] | 1) >>> 0;
            });
        }
        for (let i = 0; i < 8; i++) vf.fn.step(16);
        for (const [i, rig] of [pf, other].entries()) expect(rig.snapshot().equals(before[i])).toBe(true);
        expect([pf.fn.state, other.fn.state]).toEqual([FunctionState.ACTIVE, FunctionState.ACTIVE]);
        expect([pf.interrupts, other.interrupts]).toEqual([[], []]);
        pf.run(admin, nop());
        other.run(admins[1], nop());
        expect([pf.readIndex(admin), other.readIndex(admins[1])]).toEqual([1, 1]);
      }),
      { numRuns: 40 },
    );
  });
});

describe('resets and stops of the PF (S-114)', () => {
  it('S-114 function-level reset of the PF resets its VFs; one of a VF concerns nobody else', () => {
    const { pf, vfs } = ready();
    const before = vfs.map((vf) => vf.snapshot());
    vfs[0].fn.reset();
    expect([pf, ...vfs].map(({ fn }) => fn.state)).toEqual([FunctionState.ACTIVE, FunctionState.STOP, FunctionState.ACTIVE]);
    pf.fn.reset();
    expect([pf, ...vfs].map(({ fn }) => fn.state)).toEqual([0, 0, 0]);
    expect(vfs.map((vf) => vf.reg(Reg.CXT_L2))).toEqual([0n, 0n]);
    for (const [i, vf] of vfs.entries()) expect(vf.snapshot().equals(before[i])).toBe(true);
  });

  it.each([
    ['STOP_SF', 1],
    ['STOP_HD', 2],
    ['RESET', 0],
  ])('S-114 %s in CTL0 of the PF leaves its VFs running', (_name, request) => {
    const { pf, vfs, admins, drain } = ready();
    pf.setReg(Reg.CTL0, request);
    drain();
    for (const [i, vf] of vfs.entries()) vf.queue(admins[i], nop());
    drain();
    expect(pf.fn.state).toBe(FunctionState.STOP);
    expect(vfs.map((vf, i) => vf.readIndex(admins[i]))).toEqual([1, 1]);
  });

  it('S-114 GSV_ERROR of the PF leaves its VFs running, and that of a VF the PF', () => {
    const { pf, vfs, drain } = ready();
    vfs[0].fn.injectInternalError();
    drain();
    expect([pf, ...vfs].map(({ fn }) => fn.state)).toEqual([FunctionState.ACTIVE, FunctionState.ERROR, FunctionState.ACTIVE]);
    pf.fn.injectInternalError();
    drain();
    expect([pf, ...vfs].map(({ fn }) => fn.state)).toEqual([FunctionState.ERROR, FunctionState.ERROR, FunctionState.ACTIVE]);
  });

  it('S-118 the snapshot of a PF says nothing of its VFs; each is saved by itself, and fits nobody else', () => {
    const { pf, vfs, drain } = ready();
    for (const rig of [pf, ...vfs]) rig.setReg(Reg.CTL0, 1);
    drain();
    const [saved, first, second] = [pf, ...vfs].map(({ fn }) => fn.snapshot());
    for (const rig of [pf, ...vfs]) rig.setReg(Reg.CXT_L2, 0x7000);
    pf.fn.restore(saved);
    expect([pf, ...vfs].map((rig) => rig.reg(Reg.CXT_L2))).toEqual([BigInt(LAYOUT.l2), 0x7000n, 0x7000n]);
    vfs[1].fn.restore(second);
    expect([pf, ...vfs].map((rig) => rig.reg(Reg.CXT_L2))).toEqual([BigInt(LAYOUT.l2), 0x7000n, BigInt(LAYOUT.l2)]);
    for (const foreign of [saved, first]) {
      expect(() => vfs[1].fn.restore(foreign)).toThrow(expect.objectContaining({ code: 'ERR_SDXI_STATE' } satisfies Partial<SdxiError>));
    }
    const without = new SdxiFunction({}, { memory: pf.memory, interrupts: pf.port });
    without.restore(saved);
    expect(without.virtualFunctions).toEqual([]);
  });
});
