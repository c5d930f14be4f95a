import { ContextState, SyncFilter } from '../../spec/index.js';
import type { Need } from '../check.js';
import { decision, equal, holds, requirement, section, skip } from '../check.js';
import { adminInterrupt, akeyUpdate, contextUpdate, type Dsc, functionUpdate, nop, rkeyUpdate, start, stop, sync } from '../program.js';

const { RUN } = ContextState;
const ONE = { needs: ['context1'] } as const;

const malformed = (id: string, title: string, basis: string, dsc: () => Dsc, needs: readonly Need[] = []): ReturnType<typeof decision> =>
  decision(
    id,
    `${title}: an error of context 0`,
    basis,
    async (t) => {
      await (await t.activate()).fails(dsc(), { step: 7, sub: 3 });
    },
    { needs },
  );

const UPDATES: [id: string, dsc: () => Dsc, basis: string][] = [
  ['cxt-upd', () => contextUpdate(0), 'ref §5.6, §4.11'],
  ['cxt-upd-all', () => contextUpdate(0, 0xffff, { l2: 1, l1: 1, ctl: 1 }), 'ref §5.6, S-82'],
  ['akey-upd', () => akeyUpdate(0), 'ref §5.6, §4.11'],
  ['rkey-upd', () => rkeyUpdate(), 'ref §5.6, S-19'],
  ['fn-upd', () => functionUpdate(), 'ref §5.6, §4.11'],
];

const FILTERS = Object.entries(SyncFilter);

export const adminChecks = section(
  '5.6 Administrative operations',
  FILTERS.map(([name, flt]) =>
    requirement(`admin.sync.${name.toLowerCase()}`, `SYNC with filter ${name} completes`, 'ref §5.6, SDXI 1.0 table 6-22', async (t) => {
      await (await t.activate()).run(sync(flt, 0, 0, { key_end: 255 }));
    }),
  ),
  requirement(
    'admin.sync.running',
    'SYNC.STOP does not wait for contexts that run',
    'ref §5.6, O-14',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop());
      await t.admin.run(sync(SyncFilter.STOP, 1));
      equal(context.state, RUN, 'state');
    },
    ONE,
  ),
  requirement('admin.sync.all', 'SYNC.STOP over all context numbers completes', 'ref §13.1 G7', async (t) => {
    await (await t.activate()).run(sync(SyncFilter.STOP, 1, 0xffff));
  }),
  requirement('admin.sync.fe', 'SYNC works with fe = 0 and fe = 1', 'ref §15', async (t) => {
    await (await t.activate()).run(sync(SyncFilter.CXT), sync(SyncFilter.CXT, 0, 0, { fe: 1 }));
  }),
  UPDATES.map(([id, dsc, basis]) =>
    (/S-\d/.test(basis) ? decision : requirement)(`admin.${id}`, `${id.toUpperCase().replace('-', '_')} completes`, basis, async (t) => {
      await (await t.activate()).run(dsc());
    }),
  ),
  requirement(
    'admin.publish',
    'a context is published with CXT_UPD and SYNC, and rescinded the same way',
    'ref §11.4, §4.11',
    async (t) => {
      await t.activate();
      const context = t.context(1);
      await t.admin.run(contextUpdate(1), sync(SyncFilter.CXT, 1), start(1));
      await context.run(nop());
      await t.admin.run(stop(1), sync(SyncFilter.STOP, 1));
      context.withdraw();
      await t.admin.run(contextUpdate(1), sync(SyncFilter.CXT, 1));
    },
    ONE,
  ),
  requirement(
    'admin.akey-changed',
    'a changed AKey is used after AKEY_UPD and SYNC',
    'ref §4.11',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      context.akey(1, { vl: 0 });
      context.akey(1, {});
      await t.admin.run(akeyUpdate(1), sync(SyncFilter.AKEY, 1, 1, { key_end: 255 }));
      await context.run(nop());
    },
    ONE,
  ),
  decision(
    'admin.cxt-upd-reloads',
    'CXT_UPD: a running context loads again before its next descriptor',
    'S-108',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop());
      context.publishControl({ vl: 0 });
      await t.admin.run(contextUpdate(1), sync(SyncFilter.CXT, 1));
      context.submit(nop());
      await t.log.expect({ step: 4, sub: 3, context: 1 });
      equal(context.readIndex, 1, 'Read_Index');
    },
    ONE,
  ),
  decision('admin.intr', 'ADM_INTR raises a vector by its number', 'S-26', async (t) => {
    const admin = await t.activate();
    await admin.run(adminInterrupt(1));
    await t.interrupted(1);
    equal(t.delivered(1), 1, 'interrupts');
  }),
  requirement(
    'admin.elsewhere',
    'administrative operations outside context 0 fail',
    'ref §5.2, SDXI 1.0 §3.5',
    async (t) => {
      await t.activate();
      await t.running(1).fails(sync(SyncFilter.CXT), { step: 7, sub: 3 });
    },
    ONE,
  ),
  requirement('admin.mixed', 'administrative and base operations share the ring of context 0', 'ref §5.3', async (t) => {
    const admin = await t.activate();
    await admin.run(nop(), sync(SyncFilter.FN), nop({ fe: 1 }), functionUpdate(), nop());
    holds(admin.state === RUN, 'context 0 does not run any more');
  }),
  malformed('admin.sync.akey-range', 'SYNC of AKeys whose range ends before it begins', 'S-27', () =>
    sync(SyncFilter.AKEY, 0, 0, { key_start: 5, key_end: 4 }),
  ),
  [5, 6, 7].map((flt) => malformed(`admin.sync.filter-${flt}`, `SYNC with filter ${flt}`, 'ref §5.6', () => sync(flt))),
  malformed('admin.range.backwards', 'cxt_start > cxt_end', 'S-27', () => stop(2, 1)),
  malformed('admin.keys.backwards', 'key_start > key_end', 'S-27', () => akeyUpdate(0, 0, { key_start: 2, key_end: 1 })),
  malformed('admin.vf', 'vf = 1 on a function without VFs', 'S-96', () => stop(0, 0, { vf: 1, vf_num: 1 }), ['noVfs']),
  malformed('admin.subtype', 'a subtype that does not exist', 'ref §5.2', () => nop({ type: 2, subtype: 0x09 })),
  decision('admin.intr.no-such-vector', 'ADM_INTR with a vector that does not exist: an error of context 0', 'S-26', async (t) => {
    if (t.caps.vectors > 2047) skip('the function has every vector that a descriptor can name');
    await (await t.activate()).fails(adminInterrupt(t.caps.vectors), { step: 7, sub: 3 });
  }),
);
