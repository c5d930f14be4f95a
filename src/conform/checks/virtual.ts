import { ContextState, decodeRegister, FunctionRequest, FunctionState, MMIO_CAP0, Reg, SyncFilter } from '../../spec/index.js';
import { decision, equal, requirement, section } from '../check.js';
import type { TestContext } from '../context.js';
import { pattern } from '../memory.js';
import {
  adminInterrupt,
  akeyUpdate,
  contextUpdate,
  copy,
  type Dsc,
  type Fields,
  functionUpdate,
  nop,
  resume,
  rkeyUpdate,
  start,
  stop,
  sync,
  withCsb,
} from '../program.js';
import type { Rig } from '../rig.js';

const { RUN, STOP_SW } = ContextState;
const VFS = { needs: ['vfs'] } as const;
const CONTEXTS = { needs: ['vfs', 'context1'] } as const;
const SIZE = 256;

/** Fields that name a virtual function. */
const of = (vf_num: number): Fields => ({ vf: 1, vf_num });

/** Every administrative operation, and the context that its record names when the virtual function is not ACTIVE. */
const OPERATIONS: [id: string, dsc: (fields: Fields) => Dsc, context: number][] = [
  ['start', (fields) => start(1, 1, fields), 1],
  ['resume', (fields) => resume(1, 1, fields), 1],
  ['stop', (fields) => stop(1, 1, fields), 1],
  ['sync', (fields) => sync(SyncFilter.STOP, 1, 1, fields), 1],
  ['cxt-upd', (fields) => contextUpdate(1, 1, fields), 1],
  ['akey-upd', (fields) => akeyUpdate(1, 1, fields), 1],
  ['rkey-upd', (fields) => rkeyUpdate(fields), 0],
  ['fn-upd', (fields) => functionUpdate(fields), 0],
  ['intr', (fields) => adminInterrupt(1, fields), 0],
];

/** Both ACTIVE, each with context 0. */
async function both(t: Rig): Promise<Rig> {
  const vf = await t.virtual(1);
  await t.activate();
  await vf.activate();
  return vf;
}

/** The same, each with context 1 in a state. */
async function pair(t: Rig, state: number): Promise<{ vf: Rig; own: TestContext; target: TestContext }> {
  const vf = await both(t);
  const [own, target] = [t, vf].map((rig) => (state === RUN ? rig.running(1) : rig.context(1, { state })));
  return { vf, own, target };
}

/** Completes with er = 1, context 0 goes on. */
async function refused(t: Rig, dsc: Dsc, step: number, context: number): Promise<void> {
  const csb = t.csb();
  t.admin.submit(withCsb(dsc, csb.iova));
  await t.log.expect({ step, sub: 3, re: 0, context });
  equal(csb.signal, 0n, 'signal');
  equal(csb.er, true, 'er');
  await t.admin.run(nop());
}

const administration = [
  decision(
    'vf.start',
    'CXT_START with vf = 1 starts the context of the VF, and no other',
    'S-55',
    async (t) => {
      const { own, target } = await pair(t, STOP_SW);
      target.claim(1);
      target.put(0, nop());
      await t.admin.run(start(1, 1, of(1)));
      equal(target.state, RUN, "state of the VF's context 1");
      await target.reached(1);
      equal(own.state, STOP_SW, "state of the PF's context 1");
    },
    CONTEXTS,
  ),
  decision(
    'vf.stop',
    'CXT_STOP and SYNC.STOP with vf = 1 stop the context of the VF, and no other',
    'S-55',
    async (t) => {
      const { own, target } = await pair(t, RUN);
      await target.run(nop());
      await t.admin.run(stop(1, 1, of(1)), sync(SyncFilter.STOP, 1, 1, of(1)));
      equal(target.state, STOP_SW, "state of the VF's context 1");
      await own.run(nop());
    },
    CONTEXTS,
  ),
  ...OPERATIONS.slice(4, 8).map(([id, dsc]) =>
    decision(
      `vf.${id}`,
      `${id.toUpperCase().replace('-', '_')} with vf = 1 completes`,
      'S-55',
      async (t) => {
        const vf = await both(t);
        await t.admin.run(dsc(of(1)));
        await vf.admin.run(nop());
      },
      VFS,
    ),
  ),
  decision(
    'vf.intr',
    'ADM_INTR with vf = 1 raises a vector of the VF',
    'S-55, S-26',
    async (t) => {
      const vf = await both(t);
      await t.admin.run(adminInterrupt(1, of(1)));
      await vf.interrupted(1);
      equal(t.delivered(1), 0, 'interrupts of the PF');
    },
    VFS,
  ),
  decision(
    'vf.context-0',
    'context 0 of a VF is a target like any other',
    'S-117',
    async (t) => {
      const vf = await both(t);
      await vf.admin.run(nop());
      await t.admin.run(stop(0, 0, of(1)), sync(SyncFilter.STOP, 0, 0, of(1)));
      equal(vf.admin.state, STOP_SW, "state of the VF's context 0");
      await t.admin.run(start(0, 0, of(1)));
      await vf.admin.run(nop());
    },
    VFS,
  ),
  decision(
    'vf.target.invalid',
    'a context that the VF does not have: er = 1, logged by the PF',
    'S-27, S-116',
    async (t) => {
      await both(t);
      await refused(t, start(1, 1, of(1)), 3, 1);
    },
    CONTEXTS,
  ),
  ...OPERATIONS.map(([id, dsc, context]) =>
    decision(
      `vf.not-active.${id}`,
      'a VF that is not ACTIVE: er = 1, and context 0 goes on',
      'S-55, S-115',
      async (t) => {
        await t.virtual(1);
        await t.activate();
        await refused(t, dsc(of(1)), 2, context);
      },
      VFS,
    ),
  ),
  ...OPERATIONS.flatMap(([id, dsc]) => [
    decision(
      `vf.number-0.${id}`,
      'vf_num = 0: an error of context 0',
      'S-96',
      async (t) => (await t.activate()).fails(dsc(of(0)), { step: 7, sub: 3 }),
      VFS,
    ),
    decision(
      `vf.number-beyond.${id}`,
      'vf_num beyond the last VF: an error of context 0',
      'S-96',
      async (t) => (await t.activate()).fails(dsc(of(t.caps.vfs + 1)), { step: 7, sub: 3 }),
      VFS,
    ),
  ]),
  decision(
    'vf.nested',
    'a VF has no VFs: vf = 1 is an error of its context 0',
    'S-113',
    async (t) => {
      const vf = await both(t);
      await vf.admin.fails(stop(1, 1, of(1)), { step: 7, sub: 3 });
    },
    VFS,
  ),
];

const isolation = [
  requirement(
    'vf.cap0',
    'CAP0.vf is 0 for the PF and 1 for each of its VFs',
    'ref §2.7',
    (t) => {
      const shown = [t.bus, ...t.bus.virtualFunctions].map((bus) => decodeRegister(MMIO_CAP0, bus.readRegister(Reg.CAP0)).vf);
      for (const [number, vf] of shown.entries()) equal(vf, number === 0 ? 0 : 1, `CAP0.vf of function ${number}`);
    },
    VFS,
  ),
  decision(
    'vf.sfunc',
    'the handle of a VF is that of the PF and its number',
    'S-113',
    (t) => {
      for (const [i, bus] of t.bus.virtualFunctions.entries())
        equal(decodeRegister(MMIO_CAP0, bus.readRegister(Reg.CAP0)).sfunc, t.caps.sfunc + i + 1, `sfunc of VF ${i + 1}`);
    },
    VFS,
  ),
  ...[
    { id: 'read', title: 'read', operand: 0 },
    { id: 'write', title: 'written', operand: 1 },
  ].flatMap(({ id, title, operand }) =>
    (['vf', 'pf'] as const).map((who) =>
      requirement(
        `vf.isolation.${who}-${id}`,
        `memory of the ${who === 'vf' ? 'PF' : 'VF'} alone is not ${title} by the ${who.toUpperCase()}`,
        'ref §7.1, §10',
        async (t) => {
          const vf = await both(t);
          const [actor, owner] = who === 'vf' ? [vf, t] : [t, vf];
          const foreign = owner.mem.special('memory of the other function', SIZE);
          foreign.put(0, pattern(SIZE, 3));
          const block = actor.mem.alloc('memory of its own', SIZE);
          block.put(0, pattern(SIZE, 4));
          const dsc = operand === 0 ? copy(foreign.iova, block.iova, SIZE) : copy(block.iova, foreign.iova, SIZE);
          await actor.admin.fails(dsc, { step: 10, sub: 1, operand });
          await owner.admin.run(nop());
        },
        VFS,
      ),
    ),
  ),
  requirement(
    'vf.isolation.same-address',
    'one address means different memory in PF and VF',
    'ref §7.1, §10',
    async (t) => {
      const vf = await both(t);
      for (const [seed, rig] of [t, vf].entries()) {
        const [from, to] = [rig.mem.special('a source', SIZE), rig.mem.special('a destination', SIZE)];
        from.put(0, pattern(SIZE, seed + 1));
        to.want(0, from.bytes);
        await rig.admin.run(copy(from.iova, to.iova, SIZE));
      }
    },
    VFS,
  ),
  requirement(
    'vf.isolation.contexts',
    'a VF that stops its contexts stops its own',
    'ref §5.6, §10',
    async (t) => {
      const { vf, own, target } = await pair(t, RUN);
      await own.run(nop());
      await target.run(nop());
      await vf.admin.run(stop(1), sync(SyncFilter.STOP, 1));
      equal(target.state, STOP_SW, "state of the VF's context 1");
      await own.run(nop());
    },
    CONTEXTS,
  ),
  requirement(
    'vf.isolation.errors',
    'an error of a VF is logged and announced there alone',
    'ref §8, §10',
    async (t) => {
      const vf = await both(t);
      await vf.admin.fails(nop({ subtype: 0x7f }), { step: 7, sub: 3 });
      await vf.interrupted(0);
      equal(t.log.written, 0n, 'ERR_WRT of the PF');
      equal(t.delivered(0), 0, 'interrupts of the PF');
      await t.admin.run(nop());
    },
    VFS,
  ),
  decision(
    'vf.isolation.stop',
    'PF and VF stop each without the other',
    'S-114',
    async (t) => {
      const vf = await both(t);
      await vf.settle();
      vf.request(FunctionRequest.STOP_SF);
      await vf.functionBecomes(FunctionState.STOP);
      await t.admin.run(nop());
      t.request(FunctionRequest.STOP_SF);
      await t.functionBecomes(FunctionState.STOP);
      await vf.activate();
      await vf.admin.run(nop());
    },
    VFS,
  ),
  decision(
    'vf.isolation.reset',
    'a function-level reset of the PF resets its VFs, one of a VF nobody else',
    'S-114',
    async (t) => {
      const vf = await both(t);
      await Promise.all([t.settle(), vf.settle()]);
      vf.bus.reset();
      await vf.functionBecomes(FunctionState.STOP);
      equal(t.functionState, FunctionState.ACTIVE, 'function state of the PF');
      await vf.activate();
      await vf.settle();
      t.bus.reset();
      await vf.functionBecomes(FunctionState.STOP);
      equal(vf.read(Reg.CXT_L2), 0n, 'CXT_L2 of the VF');
    },
    VFS,
  ),
];

export const virtualChecks = section('10 Virtualization', ...isolation, ...administration);
