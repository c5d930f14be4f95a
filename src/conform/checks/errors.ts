import { Access } from '../../memory/index.js';
import { ContextState, FunctionRequest, FunctionState, Reg } from '../../spec/index.js';
import { decision, equal, requirement, section, skip } from '../check.js';
import type { ContextOptions, Failure, TestContext } from '../context.js';
import { anything, nop, patched, withCsb } from '../program.js';
import type { Rig } from '../rig.js';

const { RUN, ERR_FN } = ContextState;
const ONE = { needs: ['context1'] } as const;

/** Context 1 as `make` leaves it, rung once: what the record says, and what CXT_STS shows afterwards. */
function load(
  id: string,
  title: string,
  row: number,
  failure: Failure,
  make: (t: Rig) => TestContext,
  { state = RUN as number, basis = `ref §8.3 row ${row}`, kind = decision } = {},
) {
  return kind(
    `load.${id}`,
    `${title}: step ${failure.step}, sub ${failure.sub}`,
    basis,
    async (t) => {
      await t.activate();
      const context = make(t);
      context.doorbell();
      await context.fallsOver(failure, { state, readIndex: context.readIndex });
      await t.admin.run(nop());
    },
    ONE,
  );
}

const ready = (t: Rig, options: ContextOptions = {}) => t.context(1, { state: RUN, ...options });

/** Level-1 table of context 1 somewhere else than that of context 0: the highest context has one of its own, or there is just one. */
function withLevel2(t: Rig, entry: bigint): TestContext {
  if (t.caps.maxContext < 128) skip('all contexts share one level-1 table, which context 0 needs too');
  const context = t.context(128, { state: RUN });
  t.l2.putU64(8, entry);
  return context;
}

const INVALID: [id: string, title: string, dsc: () => Uint8Array, basis: string][] = [
  ['type-0', 'type 0', () => anything(0, 1), 'ref §5.2'],
  ['type-7ff', 'type 0x7ff', () => anything(0x7ff, 1), 'S-20'],
  ['type-7f7', 'type 0x7f7, which is for error records', () => anything(0x7f7, 1), 'ref §5.2'],
  ['type-5', 'type 5', () => anything(5, 0), 'S-20'],
  ['subtype-0', 'DMA base subtype 0', () => anything(1, 0), 'ref §5.2'],
  ['subtype-5', 'DMA base subtype 5', () => anything(1, 5), 'ref §5.2'],
  ['subtype-ff', 'DMA base subtype 0xff', () => anything(1, 0xff), 'ref §5.2'],
  ['intr-subtype-1', 'interrupt subtype 1', () => anything(4, 1), 'ref §5.2'],
];

const ILLEGAL_STATES = [0x3, 0x5, 0x7, 0x8, 0xe];

export const errorChecks = section(
  '8 Errors',
  load('l1-invalid', 'a level-1 entry that is not valid', 1, { step: 3, sub: 3 }, (t) => {
    const context = ready(t);
    context.withdraw();
    return context;
  }),
  load('l1-akey-size', 'akey_sz above the limit of CTL2', 1, { step: 3, sub: 3 }, (t) => {
    t.write(Reg.CTL2, t.read(Reg.CTL2) & ~0xf000n);
    return ready(t, { l1: { akey_sz: 1 } });
  }),
  decision('load.l2-invalid', 'a level-2 entry that is not valid: step 2, sub 3', 'ref §8.3 row 1', async (t) => {
    await t.activate();
    const context = withLevel2(t, 0n);
    context.doorbell();
    await t.log.expect({ step: 2, sub: 3, context: 128 });
  }),
  decision('load.l2-invalid.context-0', 'an empty level-2 table: step 2, sub 3, for context 0 too', 'ref §8.3 row 1, S-91', async (t) => {
    await t.activate({ admin: false });
    t.doorbell(0);
    await t.log.expect({ step: 2, sub: 3, context: 0 });
  }),
  decision('load.l2-unmapped', 'CXT_L2 points nowhere: step 2, sub 1', 'ref §8.3 row 2, S-91', async (t) => {
    t.log.initialize();
    t.write(Reg.CXT_L2, t.mem.hole);
    t.request(FunctionRequest.ACTIVE);
    await t.functionBecomes(FunctionState.ACTIVE);
    t.doorbell(0);
    await t.log.expect({ step: 2, sub: 1, context: 0 });
  }),
  decision('load.l2-denied', 'a level-2 table that cannot be read: step 2, sub 2', 'ref §8.3 row 2', async (t) => {
    t.l2 = t.mem.special('the level-2 table', 4096, { access: Access.WRITE });
    await t.activate({ admin: false });
    t.doorbell(0);
    await t.log.expect({ step: 2, sub: 2, context: 0 });
  }),
  decision('load.l1-unmapped', 'a level-1 table that is not mapped: step 3, sub 1', 'ref §8.3 row 2', async (t) => {
    await t.activate({ admin: false });
    t.l2.putU64(0, BigInt(t.mem.hole) | 1n);
    t.doorbell(0);
    await t.log.expect({ step: 3, sub: 1, context: 0 });
  }),
  decision('load.l1-denied', 'a level-1 table that cannot be read: step 3, sub 2', 'ref §8.3 row 2', async (t) => {
    t.useLevel1(0, t.mem.special('level-1 table 0', 4096, { access: Access.WRITE }));
    await t.activate({ admin: false });
    t.doorbell(0);
    await t.log.expect({ step: 3, sub: 2, context: 0 });
  }),
  load('ctl-unmapped', 'a CXT_CTL that is not mapped', 2, { step: 4, sub: 1 }, (t) => ready(t, { l1: { cxt_ctl_ptr: t.mem.hole } })),
  load('ctl-denied', 'a CXT_CTL that cannot be read', 2, { step: 4, sub: 2 }, (t) =>
    ready(t, { control: t.mem.special('CXT_CTL', 64, { access: Access.WRITE }) }),
  ),
  load('ctl-invalid', 'a CXT_CTL that is not valid', 3, { step: 4, sub: 3 }, (t) => ready(t, { ctl: { vl: 0 } })),
  [0, 1, 1023].map((size) =>
    load(`ring-size-${size}`, `a ring of ${size} descriptors`, 3, { step: 4, sub: 3 }, (t) => ready(t, { ctl: { ds_ring_sz: size } })),
  ),
  load('ring-too-large', 'a ring larger than CAP0 allows', 3, { step: 4, sub: 3 }, (t) => {
    if (t.caps.maxRingEntries >= 2 ** 32 - 1) skip('CAP0.max_ds_ring_sz allows all that ds_ring_sz can say');
    return ready(t, { ctl: { ds_ring_sz: t.caps.maxRingEntries + 1 } });
  }),
  load('sts-unmapped', 'a CXT_STS that is not mapped', 4, { step: 5, sub: 1 }, (t) => ready(t, { ctl: { cxt_sts_ptr: t.mem.hole } })),
  load(
    'sts-denied',
    'a CXT_STS that cannot be read',
    4,
    { step: 5, sub: 2 },
    (t) => ready(t, { status: t.mem.special('CXT_STS', 16, { access: Access.WRITE, rule: 'status' }) }),
    { state: ERR_FN },
  ),
  ILLEGAL_STATES.map((state) =>
    load(
      `sts-state-${state.toString(16)}`,
      `the illegal state 0x${state.toString(16)}`,
      4,
      { step: 5, sub: 3 },
      (t) => ready(t, { state }),
      { state: ERR_FN },
    ),
  ),
  load(
    'write-index-unmapped',
    'a Write_Index that is not mapped',
    6,
    { step: 6, sub: 1 },
    (t) => ready(t, { ctl: { write_index_ptr: t.mem.hole } }),
    { state: ERR_FN },
  ),
  load(
    'write-index-denied',
    'a Write_Index that cannot be read',
    6,
    { step: 6, sub: 2 },
    (t) => ready(t, { writeIndex: t.mem.special('Write_Index', 8, { access: Access.WRITE }) }),
    { state: ERR_FN },
  ),
  load(
    'write-index-behind',
    'Write_Index < Read_Index',
    7,
    { step: 6, sub: 3 },
    (t) => {
      const context = ready(t, { index: 10 });
      context.writeIndex.putU64(0, 9);
      return context;
    },
    { state: ERR_FN },
  ),
  load(
    'write-index-ahead',
    'Write_Index − Read_Index > ring size',
    7,
    { step: 6, sub: 3 },
    (t) => {
      const context = ready(t);
      context.writeIndex.putU64(0, 1025);
      return context;
    },
    { state: ERR_FN },
  ),
  (
    [
      ['unmapped', Access.READ, 1],
      ['denied', Access.READ, 2],
      ['unreadable', Access.WRITE, 2],
    ] as const
  ).map(([id, access, sub]) =>
    decision(
      `slot.${id}`,
      `a ring slot that is ${id === 'denied' ? 'read-only' : id}: step 7, nothing consumed`,
      id === 'denied' ? 'S-76, ref §13.6 row 17' : 'ref §8.3 row 8',
      async (t) => {
        const ring = t.mem.special('the ring', 65_536, { access, rule: 'ring' });
        const context = await t.worker({ ring });
        if (id === 'unmapped') t.mem.unmap(ring.iova, 65_536);
        const csb = t.csb();
        context.submit(withCsb(nop(), csb.iova));
        await context.fallsOver({ step: 7, sub }, { index: 0, readIndex: 0 });
        equal(csb.signal, 1n, 'signal');
      },
      { options: id === 'denied' ? ['clearValid'] : [] },
    ),
  ),
  decision('slot.other-page', 'only the page of the slot being taken matters', 'S-77', async (t) => {
    const ring = t.mem.special('the ring', 65_536, { pages: true, rule: 'ring' });
    t.mem.unmap(ring.iova + 4096, 4096);
    const context = await t.worker({ ring });
    await context.run(...Array.from({ length: 64 }, () => nop()));
    context.submit(nop());
    await context.fallsOver({ step: 7, sub: 1 }, { index: 64, readIndex: 64 });
  }),
  INVALID.map(([id, title, dsc, basis]) =>
    requirement(
      `dsc.${id}`,
      `${title} is a validation failure of the descriptor`,
      basis.startsWith('S') ? basis : `${basis}, §8.2`,
      async (t) => {
        await (await t.worker()).fails(dsc(), { step: 7, sub: 3 });
      },
    ),
  ),
  decision(
    'dsc.ch',
    'ch = 1 is a validation failure',
    'S-16',
    async (t) => {
      await (await t.worker()).fails(nop({ ch: 1 }), { step: 7, sub: 3 });
    },
    { options: ['ignoreChain'] },
  ),
  decision('dsc.header-first', 'a bad header is reported before anything else', 'S-44', async (t) => {
    await (await t.worker()).fails(patched(anything(1, 0x7f), { 12: 0xff, 13: 0xff }), { step: 7, sub: 3 });
  }),
  (
    [
      ['unmapped', 1],
      ['denied', 2],
    ] as const
  ).map(([id, sub]) =>
    decision(`csb.${id}`, `a completion block that is ${id === 'denied' ? 'read-only' : id}: step 8`, 'ref §8.3 row 10', async (t) => {
      const context = await t.worker();
      const iova = id === 'denied' ? t.mem.special('a completion block', 32, { access: Access.READ }).iova : t.mem.hole;
      const index = context.submit(withCsb(nop(), iova));
      await t.log.expect({ step: 8, sub, context: context.number, index });
      equal(context.state, ERR_FN, 'state');
      equal(context.readIndex, index + 1, 'Read_Index');
    }),
  ),
  decision('csb.second-record', 'an operation that fails and cannot complete leaves two records', 'S-43', async (t) => {
    const context = await t.worker();
    const index = context.submit(withCsb(nop({ subtype: 0x7f }), t.mem.hole));
    await t.log.expect({ step: 7, sub: 3, context: context.number, index });
    await t.log.expect({ step: 8, sub: 1, context: context.number, index });
  }),
  requirement('error.later-untouched', 'descriptors behind the failed one are left alone', 'ref §6.4', async (t) => {
    const context = await t.worker();
    const later = t.csb();
    context.submit(nop({ subtype: 0x7f }), withCsb(nop({ fe: 1 }), later.iova), nop());
    await t.log.expect({ step: 7, sub: 3, context: context.number, index: 0 });
    context.doorbell();
    await t.quiet(() => later.signal !== 1n || context.readIndex > 1, 'a descriptor behind the failed one was taken');
    equal(context.valid(1), true, 'vl of the next slot');
  }),
  requirement('error.earlier-complete', 'descriptors before the failed one have completed', 'ref §6.4', async (t) => {
    const context = await t.worker();
    const csb = t.csb(10);
    context.submit(...Array.from({ length: 10 }, () => withCsb(nop(), csb.iova)), nop({ subtype: 0x7f, fe: 1 }));
    await t.log.expect({ step: 7, sub: 3, context: context.number, index: 10 });
    equal(csb.signal, 0n, 'signal of the earlier descriptors');
    equal(csb.er, false, 'er of the earlier descriptors');
  }),
  decision(
    'error.slot',
    'the slot of a failed descriptor has been consumed',
    'S-34',
    async (t) => {
      const context = await t.worker();
      await context.fails(nop({ subtype: 0x7f }), { step: 7, sub: 3 });
      equal(context.valid(0), false, 'vl of the failed slot');
    },
    { options: ['clearValid'] },
  ),
  requirement('error.np', 'a failure without completion block stops the context all the same', 'ref §6.4', async (t) => {
    const context = await t.worker();
    context.submit(nop({ subtype: 0x7f }));
    await t.log.expect({ step: 7, sub: 3, context: context.number, index: 0 });
    equal(context.state, ERR_FN, 'state');
  }),
  requirement(
    'error.others-run',
    'an error of one context leaves the others running',
    'ref §8.1',
    async (t) => {
      await t.activate();
      const [bad, good] = [t.running(1), t.running(2)];
      await bad.fails(nop({ subtype: 0x7f }), { step: 7, sub: 3 });
      await good.run(nop());
      await t.admin.run(nop());
    },
    { needs: ['context2'] },
  ),
  requirement(
    'error.jump-start',
    'after an error RUN and a doorbell go on behind the failed descriptor',
    'ref §6.5, §13.6 row 14, O-10',
    async (t) => {
      const context = await t.worker();
      await context.fails(nop({ subtype: 0x7f }), { step: 7, sub: 3 });
      context.jumpStart();
      await context.run(nop());
      equal(context.readIndex, 2, 'Read_Index');
    },
  ),
  requirement(
    'error.context-0',
    'an error of context 0 stops context 0 alone',
    'ref §8.1',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop());
      await t.admin.fails(nop({ subtype: 0x7f }), { step: 7, sub: 3 });
      await context.run(nop());
      equal(t.functionState, 2, 'the function state');
    },
    ONE,
  ),
  decision(
    'error.no-storm',
    'doorbells of a broken context leave one record until it has loaded once',
    'S-36',
    async (t) => {
      await t.activate();
      const context = ready(t, { ctl: { vl: 0 } });
      context.doorbell();
      await t.log.expect({ step: 4, sub: 3, context: 1 });
      for (let i = 0; i < 10; i++) context.doorbell();
      await t.quiet(() => t.log.written > 1n, 'another record of the same context');
      context.publishControl({ vl: 1 });
      await context.run(nop());
      await t.admin.run(nop());
    },
    ONE,
  ),
  decision('error.status-readonly', 'a CXT_STS that cannot be written stops the context without a write', 'S-75', async (t) => {
    const status = t.mem.special('CXT_STS', 16, { access: Access.READ });
    const context = await t.worker({ status });
    await t.settle(); // one doorbell is heard, and no second one for what cannot be marked as stopped (S-36)
    context.submit(nop());
    await t.log.expect({ step: 5, sub: 2, context: context.number });
  }),
);
