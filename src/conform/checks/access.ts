import { Access } from '../../memory/index.js';
import { ContextState } from '../../spec/index.js';
import { decision, equal, requirement, section, skip } from '../check.js';
import type { RkeyTable, TestContext } from '../context.js';
import { type Block, pattern } from '../memory.js';
import { copy, interrupt, nop, writeImmediate } from '../program.js';
import type { Rig } from '../rig.js';

const PASID = 0x12345;
const TOP = 2n ** 64n;

interface Operands {
  context: TestContext;
  source: Block;
  target: Block;
}

/** A running context and two pages that must not change. */
async function operands(t: Rig): Promise<Operands> {
  const context = await t.worker();
  const source = t.mem.alloc('the source', 4096, { align: 4096 });
  const target = t.mem.alloc('the destination', 4096, { align: 4096 });
  source.put(0, pattern(4096));
  return { context, source, target };
}

/** Copies one page through a key, and expects it to arrive. */
async function moves(context: TestContext, source: Block, target: Block, fields: Record<string, number>): Promise<void> {
  target.want(0, source.expected);
  await context.run(copy(source.iova, target.iova, 4096, fields));
}

/** A worker with an RKey 3 that lets this function into its own space, and AKey 2 that uses it. S-38 */
async function loopback(
  t: Rig,
  { akey = {}, rkey = {}, en = 1 }: { akey?: Record<string, number>; rkey?: Record<string, number>; en?: number } = {},
): Promise<Operands & { table: RkeyTable }> {
  const { sfunc } = t.caps;
  // Behind the 256 entries that count lies one that would do.
  const table = t.rkeys({ en, block: t.mem.alloc('the RKey table', 4096 + 16, { align: 4096 }) });
  table.put(256, { req_sfunc: sfunc });
  const all = await operands(t);
  table.put(3, { req_sfunc: sfunc, ...rkey });
  all.context.akey(2, { tgt_sfunc: sfunc, rkey: 3, ...akey });
  return { ...all, table };
}

const REMOTE = { needs: ['rkeys'] } as const;

const RKEY_FAILURES: [id: string, title: string, basis: string, akey: Record<string, number>, rkey: Record<string, number>, en?: number][] =
  [
    ['off', 'RKEY.en = 0', 'S-38, ref §7.1', {}, {}, 0],
    ['invalid', 'an RKey entry that is not valid', 'S-38, ref §7.1', {}, { vl: 0 }],
    ['other-requester', 'an RKey entry for another function', 'S-38, ref §7.1', {}, { req_sfunc: 0xfffe }],
    ['pasid-missing', 'AKey with PASID, RKey without', 'S-29', { pv: 1, pasid: 5 }, {}],
    ['pasid-extra', 'RKey with PASID, AKey without', 'S-29', {}, { pv: 1, pasid: 5 }],
    ['pasid-differs', 'different PASIDs in AKey and RKey', 'S-29', { pv: 1, pasid: 5 }, { pv: 1, pasid: 6 }],
    ['beyond-table', 'an rkey beyond the table', 'S-98', { rkey: 256 }, {}],
    ['unknown-function', 'a function that does not exist', 'S-56', { tgt_sfunc: 0xfffe }, {}],
  ];

export const accessChecks = section(
  '7 Access checks',
  requirement('access.source-hole', 'a source that is not mapped: step 10, translation, operand 0', 'ref §7.1, §8.2', async (t) => {
    const { context, target } = await operands(t);
    await context.fails(copy(t.mem.hole, target.iova, 4096), { step: 10, sub: 1, operand: 0 });
  }),
  requirement(
    'access.target-hole',
    'a destination that is not mapped: step 10, translation, operand 1',
    'ref §7.1, §13.6 row 5',
    async (t) => {
      const { context, source } = await operands(t);
      await context.fails(copy(source.iova, t.mem.hole, 4096), { step: 10, sub: 1, operand: 1 });
    },
  ),
  requirement('access.source-denied', 'a source without read permission: step 10, access', 'ref §7.1', async (t) => {
    const { context, target } = await operands(t);
    const source = t.mem.special('a write-only source', 4096, { access: Access.WRITE });
    await context.fails(copy(source.iova, target.iova, 4096), { step: 10, sub: 2, operand: 0 });
  }),
  requirement('access.target-denied', 'a destination without write permission: step 10, access', 'ref §7.1', async (t) => {
    const { context, source } = await operands(t);
    const target = t.mem.special('a read-only destination', 4096, { access: Access.READ });
    await context.fails(copy(source.iova, target.iova, 4096), { step: 10, sub: 2, operand: 1 });
  }),
  requirement('access.wrt-imm', 'WRT_IMM to a hole: operand 0', 'ref §7.1, §4.10', async (t) => {
    const { context } = await operands(t);
    await context.fails(writeImmediate(t.mem.hole, pattern(8)), { step: 10, sub: 1, operand: 0 });
  }),
  requirement('access.source-end', 'a source whose last byte is not mapped', 'ref §7.1', async (t) => {
    const { context, target } = await operands(t);
    const source = t.mem.special('the last page', 4096);
    target.ignore();
    await context.fails(copy(source.iova + 1, target.iova, 4096), { step: 10, sub: 1, operand: 0 });
  }),
  requirement(
    'access.target-end',
    'a destination whose last byte is not mapped: no byte outside it changes',
    'ref §7.1, F-48',
    async (t) => {
      const { context, source } = await operands(t);
      const target = t.mem.special('the last page', 4096);
      target.ignore();
      await context.fails(copy(source.iova, target.iova + 1, 4096), { step: 10, sub: 1, operand: 1 });
    },
  ),
  requirement('access.middle-hole', 'a hole in the middle of a destination', 'ref §7.1', async (t) => {
    const { context } = await operands(t);
    const source = t.mem.alloc('the source', 12_288);
    const target = t.mem.special('a destination with a hole', 12_288, { pages: true });
    t.mem.unmap(target.iova + 4096, 4096);
    target.ignore(0, 4096);
    target.ignore(8192, 4096);
    await context.fails(copy(source.iova, target.iova, 12_288), { step: 10, sub: 1, operand: 1 });
  }),
  requirement('access.unmapped-later', 'a page that is taken away while the context runs', 'ref §7.1', async (t) => {
    const { context, source } = await operands(t);
    const target = t.mem.special('the destination', 4096);
    await moves(context, source, target, {});
    t.mem.unmap(target.iova, 4096);
    await context.fails(copy(source.iova, target.iova, 4096), { step: 10, sub: 1, operand: 1 });
  }),
  decision('access.both-holes', 'when both operands are wrong, operand 0 is named', 'S-44', async (t) => {
    const { context } = await operands(t);
    await context.fails(copy(t.mem.hole, t.mem.hole + 8192, 4096), { step: 10, sub: 1, operand: 0 });
  }),
  requirement('access.last-byte', 'the last address is an address, not a wrap to 0', 'F-18', async (t) => {
    const { context, target } = await operands(t);
    await context.fails(copy(TOP - 1n, target.iova, 1), { step: 10, sub: 1, operand: 0 });
  }),
  decision('access.beyond-top', 'a buffer that reaches beyond 2^64', 'S-41', async (t) => {
    const { context, source } = await operands(t);
    await context.fails(copy(source.iova, TOP - 64n, 4096), { step: 10, sub: 1, operand: 1 });
  }),
  requirement('akey.beyond-table', 'an AKey index beyond the table: step 11', 'ref §7.1, §8.2', async (t) => {
    const { context, source, target } = await operands(t);
    await context.fails(copy(source.iova, target.iova, 64, { akey0: 256 }), { step: 11, sub: 3, operand: 0 });
  }),
  requirement('akey.invalid', 'an AKey that is not valid: step 11, operand 1', 'ref §7.1', async (t) => {
    const { context, source, target } = await operands(t);
    await context.fails(copy(source.iova, target.iova, 64, { akey1: 7 }), { step: 11, sub: 3, operand: 1 });
  }),
  decision('akey.before-data', 'keys are looked at before data', 'S-44', async (t) => {
    const { context } = await operands(t);
    await context.fails(copy(t.mem.hole, t.mem.hole + 8192, 64, { akey1: 7 }), { step: 11, sub: 3, operand: 1 });
  }),
  requirement('akey.unmapped', 'an AKey table that is not mapped: step 11, translation', 'ref §7.1', async (t) => {
    const context = await t.worker({ l1: { akey_ptr: t.mem.hole } });
    await context.fails(copy(t.l2.iova, t.l2.iova + 64, 64), { step: 11, sub: 1, operand: 0 });
  }),
  requirement('akey.denied', 'an AKey table that cannot be read: step 11, access', 'ref §7.1', async (t) => {
    const context = await t.worker({ akeys: t.mem.special('the AKey table', 4096, { access: Access.WRITE }) });
    await context.fails(copy(t.l2.iova, t.l2.iova + 64, 64), { step: 11, sub: 2, operand: 0 });
  }),
  requirement('akey.not-needed', 'a NOP looks at no key', 'ref §5.3', async (t) => {
    const context = await t.worker({ l1: { akey_ptr: t.mem.hole } });
    await context.run(nop());
  }),
  decision('akey.hints', 'ste, stag and ph change nothing', 'ref §7.4', async (t) => {
    const { context, source, target } = await operands(t);
    context.akey(1, { ste: 1, stag: 0xffff, ph: 3 });
    await moves(context, source, target, { akey0: 1, akey1: 1 });
  }),
  decision('akey.rkey-ignored', 'the rkey of a local key means nothing', 'ref §4.7', async (t) => {
    const { context, source, target } = await operands(t);
    context.akey(1, { rkey: 0xffff });
    await moves(context, source, target, { akey0: 1, akey1: 1 });
  }),
  requirement(
    'pasid.akey',
    'an AKey with pv reaches the space of its PASID',
    'O-25, ref §7.1',
    async (t) => {
      const { context, source } = await operands(t);
      context.akey(1, { pv: 1, pasid: PASID });
      const target = t.mem.special('a destination under a PASID', 4096, { pasid: PASID });
      await moves(context, source, target, { akey1: 1 });
    },
    { needs: ['pasid'] },
  ),
  requirement(
    'pasid.separate',
    'what is mapped under a PASID is not there without it, and the other way round',
    'O-25, ref §7.1',
    async (t) => {
      const { context, source } = await operands(t);
      const target = t.mem.special('a destination under a PASID', 4096, { pasid: PASID });
      await context.fails(copy(source.iova, target.iova, 4096), { step: 10, sub: 1, operand: 1 });
      context.akey(1, { pv: 1, pasid: PASID });
      context.jumpStart();
      await context.fails(copy(source.iova, target.iova, 4096, { akey0: 1 }), { step: 10, sub: 1, operand: 0 });
    },
    { needs: ['pasid'] },
  ),
  decision('pasid.unknown', 'a PASID that nobody knows: translation', 'S-109', async (t) => {
    const { context, source, target } = await operands(t);
    context.akey(1, { pv: 1, pasid: 0x777 });
    await context.fails(copy(source.iova, target.iova, 64, { akey0: 1 }), { step: 10, sub: 1, operand: 0 });
  }),
  requirement(
    'pasid.context',
    'cxt_pasid is the space of ring, CXT_STS, Write_Index and completion blocks, and the default of keys',
    'ref §7.1, §7.3',
    async (t) => {
      const context = await t.worker({
        l1: { pv: 1, cxt_pasid: PASID },
        status: t.mem.special('CXT_STS', 16, { pasid: PASID, rule: 'status' }),
        writeIndex: t.mem.special('Write_Index', 8, { pasid: PASID }),
        ring: t.mem.special('the ring', 65_536, { pasid: PASID, rule: 'ring' }),
      });
      const source = t.mem.special('the source', 4096, { pasid: PASID });
      const target = t.mem.special('the destination', 4096, { pasid: PASID });
      source.put(0, pattern(4096));
      target.want(0, source.expected);
      const csb = t.mem.special('a completion block', 32, { pasid: PASID, rule: 'csb' });
      csb.putU64(0, 1);
      const dsc = copy(source.iova, target.iova, 4096);
      new DataView(dsc.buffer).setBigUint64(56, BigInt(csb.iova), true);
      context.submit(dsc);
      await context.reached();
      await t.until(() => csb.u64(0) === 0n, 'completion');
    },
    { needs: ['pasid', 'context1'] },
  ),
  decision(
    'pasid.function',
    'fn_pasid is the space of tables and keys',
    'S-12, ref §7.3',
    async (t) => {
      const pasid = PASID;
      t.l2 = t.mem.special('the level-2 table', 4096, { pasid });
      t.useLevel1(0, t.mem.special('level-1 table 0', 4096, { pasid }));
      const log = t.mem.special('the error log', 4096, { pasid, rule: 'free' });
      const admin = {
        l1: { pv: 1, cxt_pasid: 5 },
        control: t.mem.special('CXT_CTL', 64, { pasid }),
        akeys: t.mem.special('the AKey table', 4096, { pasid }),
        status: t.mem.special('CXT_STS', 16, { pasid: 5, rule: 'status' }),
        writeIndex: t.mem.special('Write_Index', 8, { pasid: 5 }),
        ring: t.mem.special('the ring', 65_536, { pasid: 5, rule: 'ring' }),
      } as const;
      await t.activate({ admin, log: { block: log }, ctl0: { fn_pasid_vl: 1, fn_pasid: pasid } });
      t.admin.submit(nop(), nop());
      await t.admin.reached();
      t.admin.submit(nop({ subtype: 0x7f }));
      await t.log.expect({ step: 7, sub: 3, context: 0, index: 2 });
    },
    { needs: ['pasid'] },
  ),
  decision(
    'rkey.loopback',
    'a function reaches itself through its own sfunc and an RKey',
    'S-38, S-97',
    async (t) => {
      const { context, source, target } = await loopback(t);
      await moves(context, source, target, { akey0: 2, akey1: 2 });
    },
    REMOTE,
  ),
  decision(
    'rkey.pasid',
    'the RKey gives the PASID, when both agree',
    'S-29, S-38',
    async (t) => {
      const { context, source } = await loopback(t, { akey: { pv: 1, pasid: PASID }, rkey: { pv: 1, pasid: PASID } });
      const target = t.mem.special('a destination under a PASID', 4096, { pasid: PASID });
      await moves(context, source, target, { akey1: 2 });
    },
    { needs: ['rkeys', 'pasid'] },
  ),
  RKEY_FAILURES.map(([id, title, basis, akey, rkey, en]) =>
    decision(
      `rkey.${id}`,
      `${title}: step 12`,
      basis,
      async (t) => {
        const { context, source, target } = await loopback(t, { akey, rkey, en });
        await context.fails(copy(source.iova, target.iova, 64, { akey1: 2 }), { step: 12, sub: 3, operand: 1 });
      },
      REMOTE,
    ),
  ),
  decision(
    'rkey.unmapped',
    'an RKey table that is not mapped: step 12, translation',
    'S-38, ref §7.1',
    async (t) => {
      const { context, source, target } = await loopback(t);
      t.write(0x10100, BigInt(t.mem.hole) | 1n);
      await context.fails(copy(source.iova, target.iova, 64, { akey0: 2 }), { step: 12, sub: 1, operand: 0 });
    },
    REMOTE,
  ),
  decision(
    'rkey.read-only',
    'the RKey table is only read',
    'S-38, ref §4.0',
    async (t) => {
      const { context, source, target } = await loopback(t);
      t.rkeys({ block: t.mem.special('the RKey table', 4096, { access: Access.READ }) }).put(3, { req_sfunc: t.caps.sfunc });
      await moves(context, source, target, { akey0: 2 });
    },
    REMOTE,
  ),
  decision(
    'rkey.interrupt',
    'a remote interrupt takes its vector from the RKey',
    'S-57, S-38',
    async (t) => {
      const { context } = await loopback(t, { rkey: { iv: 1, intr_num: 1 } });
      await context.run(interrupt(2));
      await t.interrupted(1);
      equal(t.delivered(1), 1, 'interrupts');
    },
    { needs: ['rkeys', 'interrupts'] },
  ),
  decision(
    'rkey.interrupt.iv-0',
    'a remote interrupt needs iv in the RKey: step 12',
    'S-57, ref §7.2',
    async (t) => {
      const { context } = await loopback(t, { akey: { iv: 1, intr_num: 1 } });
      await context.fails(interrupt(2), { step: 12, sub: 3, operand: 0 });
    },
    { needs: ['rkeys', 'interrupts'] },
  ),
  decision('rkey.no-capability', 'without CAP1.rkey_cap a remote key fails: step 12', 'ref §7.1, §2.11', async (t) => {
    if (t.caps.rkeyCap) skip('CAP1.rkey_cap is 1');
    const { context, source, target } = await loopback(t);
    await context.fails(copy(source.iova, target.iova, 64, { akey0: 2 }), { step: 12, sub: 3, operand: 0 });
    equal(context.state, ContextState.ERR_FN, 'state');
  }),
);
