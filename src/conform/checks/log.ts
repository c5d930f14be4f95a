import { Access } from '../../memory/index.js';
import { ERRLOG_HD_ENT, Reg } from '../../spec/index.js';
import { decision, equal, holds, requirement, section, skip } from '../check.js';
import type { TestContext } from '../context.js';
import { CLEAR_ALL, type LogOptions } from '../log.js';
import { copy, nop } from '../program.js';
import type { Rig } from '../rig.js';

/** A descriptor that fails whatever the state of the log. */
const bad = () => nop({ subtype: 0x7f });

/** Makes one error and waits until the context shows it. */
async function errs(context: TestContext): Promise<void> {
  context.state = 1;
  const index = context.submit(bad());
  await context.becomes(0xf);
  equal(context.readIndex, index + 1, 'Read_Index');
}

/** Makes errors until there are so many records. */
async function records(t: Rig, context: TestContext, count: number): Promise<void> {
  t.log.uncounted = true;
  while (t.log.written < BigInt(count)) {
    const before = t.log.written;
    await errs(context);
    await t.until(() => t.log.written > before, `record ${before}`);
  }
}

const logged = (t: Rig, log: LogOptions = {}) => t.worker({}, { log });

export const logChecks = section(
  '8.5 Error log',
  requirement('log.record', 'a record is valid, has type 0x7f7, and names context and index', 'ref §4.10, SDXI 1.0 §3.4', async (t) => {
    const context = await logged(t);
    await context.run(nop(), nop());
    await context.fails(bad(), { step: 7, sub: 3 });
  }),
  decision(
    'log.record.bytes',
    'what is not valid in a record is 0',
    'S-110, S-15',
    async (t) => {
      const context = await logged(t);
      context.submit(copy(t.mem.hole, t.l2.iova, 1));
      const record = await t.log.next();
      const wanted = ERRLOG_HD_ENT.encode({
        vl: 1,
        step: 10,
        type: 0x7f7,
        cv: 1,
        div: 1,
        bv: 1,
        sub_step: 1,
        re: 1,
        cxt_num: context.number,
      });
      equal(Buffer.from(record).toString('hex'), Buffer.from(wanted).toString('hex'), 'the record');
    },
    { options: ['vendorInfo'] },
  ),
  requirement('log.index', 'dsc_index is the index, not the slot', 'ref §4.10', async (t) => {
    const context = await t.worker({ index: 5000 });
    await context.fails(bad(), { step: 7, sub: 3 });
  }),
  requirement('log.written', 'ERR_WRT counts the records', 'ref §2.12, §8.5', async (t) => {
    const context = await logged(t);
    for (let i = 1; i <= 5; i++) {
      if (i > 1) context.state = 1;
      await context.fails(bad(), { step: 7, sub: 3 });
      equal(t.log.written, BigInt(i), 'ERR_WRT');
    }
    equal(t.read(Reg.ERR_RD), 0n, 'ERR_RD');
  }),
  requirement('log.sts', 'a record sets sts, and nothing else in ERR_STS', 'ref §2.12, §8.5', async (t) => {
    const context = await logged(t);
    await context.fails(bad(), { step: 7, sub: 3 });
    await t.until(() => t.log.status.sts === 1, 'sts');
    equal(t.read(Reg.ERR_STS), 1n, 'ERR_STS');
  }),
  requirement('log.others-untouched', 'a record changes no other slot of the log', 'ref §8.5', async (t) => {
    const context = await logged(t);
    await context.fails(bad(), { step: 7, sub: 3 });
    const { bytes } = t.log.block as { bytes: Uint8Array };
    holds(
      bytes.subarray(64).every((b) => b === 0),
      'bytes behind the record changed',
    );
  }),
  requirement('log.interrupt', 'a record raises vector 0, once', 'ref §8.5, SDXI 1.0 §3.4', async (t) => {
    const context = await logged(t);
    await context.fails(bad(), { step: 7, sub: 3 });
    await t.interrupted(0);
    await t.quiet(() => t.delivered(0) > 1, 'the interrupt came twice');
  }),
  requirement(
    'log.interrupt.edge',
    'the interrupt comes with the edge of sts, and again after it was cleared',
    'ref §8.5, §8.6',
    async (t) => {
      const context = await logged(t);
      await context.fails(bad(), { step: 7, sub: 3 });
      await t.interrupted(0);
      context.state = 1;
      await context.fails(bad(), { step: 7, sub: 3 });
      await t.quiet(() => t.delivered(0) > 1, 'an interrupt although sts was 1 already');
      t.write(Reg.ERR_STS, CLEAR_ALL);
      context.state = 1;
      await context.fails(bad(), { step: 7, sub: 3 });
      await t.interrupted(0, 2);
    },
  ),
  requirement('log.interrupt.off', 'intr_en = 0: no interrupt', 'ref §2.12', async (t) => {
    const context = await logged(t, { interrupt: false });
    await context.fails(bad(), { step: 7, sub: 3 });
    await t.quiet(() => t.delivered(0) > 0, 'an interrupt with intr_en = 0');
  }),
  decision('log.interrupt.late', 'setting intr_en while sts is 1 sends nothing', 'S-92', async (t) => {
    const context = await logged(t, { interrupt: false });
    await context.fails(bad(), { step: 7, sub: 3 });
    await t.until(() => t.log.status.sts === 1, 'sts');
    t.write(Reg.ERR_CTL, 1n);
    await t.quiet(() => t.delivered(0) > 0, 'an interrupt without an edge');
  }),
  requirement('log.interrupt.order', 'when the interrupt is there, record and ERR_WRT are there', 'ref §8.5', async (t) => {
    const context = await logged(t);
    context.submit(bad());
    await t.interrupted(0);
    equal(t.log.written, 1n, 'ERR_WRT');
    await t.log.expect({ step: 7, sub: 3, context: context.number, index: 0 });
  }),
  requirement('log.software', 'the eleven steps of software, three times', 'ref §8.6, SDXI 1.0 §3.4.2', async (t) => {
    const context = await logged(t);
    for (let i = 1; i <= 3; i++) {
      if (i > 1) context.state = 1;
      await context.fails(bad(), { step: 7, sub: 3 });
      await t.interrupted(0, i);
      t.write(Reg.ERR_STS, CLEAR_ALL);
      t.write(Reg.ERR_RD, t.log.written);
      equal(t.read(Reg.ERR_STS), 0n, 'ERR_STS');
    }
  }),
  decision('log.off', 'ERR_CFG.en = 0: no record, no sts, no interrupt', 'S-35, ref §13.6 row 10', async (t) => {
    const context = await t.worker({}, { log: false });
    t.write(Reg.ERR_CTL, 1n);
    await errs(context);
    await t.quiet(() => t.read(Reg.ERR_STS) !== 0n || t.delivered(0) > 0 || t.log.written !== 0n, 'a log that is off was used');
  }),
  requirement('log.off.later', 'after ERR_CFG = 0 nothing is written to the log', 'ref §8.4', async (t) => {
    const context = await logged(t);
    t.write(Reg.ERR_CFG, 0n);
    await errs(context);
    const { bytes } = t.log.block as { bytes: Uint8Array };
    holds(
      bytes.every((b) => b === 0),
      'the log was written',
    );
  }),
  decision(
    'log.full',
    'a full log: ovf and sts, the record is lost, ERR_WRT stays',
    'ref §8.5, §13.6 row 11',
    async (t) => {
      const context = await logged(t);
      await records(t, context, 64);
      t.write(Reg.ERR_STS, CLEAR_ALL);
      const before = t.delivered(0);
      await errs(context);
      await t.until(() => t.log.status.ovf === 1, 'ovf');
      equal(t.read(Reg.ERR_STS), 3n, 'ERR_STS');
      equal(t.log.written, 64n, 'ERR_WRT');
      await t.interrupted(0, before + 1);
    },
    { options: ['errlog'] },
  ),
  decision(
    'log.full.read',
    'when software has read, the log goes on at its start',
    'ref §2.12, §8.5',
    async (t) => {
      const context = await logged(t);
      await records(t, context, 64);
      t.write(Reg.ERR_RD, 64n);
      (t.log.block as { bytes: Uint8Array }).bytes.fill(0);
      await records(t, context, 65);
      equal(t.log.status.ovf, 0, 'ovf');
      equal(ERRLOG_HD_ENT.decode(t.log.record(64)).vl, 1, 'vl of record 64 in slot 0');
    },
    { options: ['errlog'] },
  ),
  decision('log.sz-0', 'sz = 0 is one page', 'S-6', async (t) => {
    const context = await logged(t, { sz: 0 });
    await records(t, context, 64);
    await errs(context);
    await t.until(() => t.log.status.ovf === 1, 'ovf');
  }),
  decision(
    'log.sz-2',
    'sz = 2 is two pages',
    'S-6',
    async (t) => {
      if (t.caps.maxErrorLogPages < 2) skip('CAP1.max_errlog_sz allows one page');
      const context = await logged(t, { sz: 2, pages: 3 });
      await records(t, context, 128);
      equal(t.log.status.ovf, 0, 'ovf');
      await errs(context);
      await t.until(() => t.log.status.ovf === 1, 'ovf');
      equal(t.log.written, 128n, 'ERR_WRT');
    },
    { options: ['errlog'] },
  ),
  decision('log.clamped', 'a log larger than CAP1 allows is cut down', 'S-6', async (t) => {
    const { maxErrorLogPages } = t.caps;
    if (maxErrorLogPages > 2) skip(`CAP1.max_errlog_sz allows ${maxErrorLogPages} pages`);
    const context = await logged(t, { sz: 4, pages: 5 });
    await records(t, context, 64 * maxErrorLogPages);
    await errs(context);
    await t.until(() => t.log.status.ovf === 1, 'ovf');
  }),
  (
    [
      ['unmapped', undefined],
      ['read-only', Access.READ],
    ] as const
  ).map(([id, access]) =>
    requirement(`log.${id}`, `a log that is ${id}: err and sts, ERR_WRT stays`, 'ref §2.12, §8.5', async (t) => {
      const block = t.mem.special('the error log', 4096, { access: access ?? Access.READ_WRITE });
      const context = await logged(t, { block });
      if (access === undefined) t.mem.unmap(block.iova, 4096);
      await errs(context);
      await t.until(() => t.log.status.err === 1, 'err');
      equal(t.read(Reg.ERR_STS), 9n, 'ERR_STS');
      equal(t.log.written, 0n, 'ERR_WRT');
      await t.interrupted(0);
    }),
  ),
  decision('log.wrt-preset', 'ERR_WRT as software left it is where the next record goes', 'S-51', async (t) => {
    const context = await logged(t);
    t.write(Reg.ERR_WRT, 10n);
    t.write(Reg.ERR_RD, 10n);
    t.log.uncounted = true;
    await errs(context);
    await t.until(() => t.log.written === 11n, 'ERR_WRT 11');
    equal(ERRLOG_HD_ENT.decode(t.log.record(10)).vl, 1, 'vl of record 10');
    equal(ERRLOG_HD_ENT.decode(t.log.record(0)).vl, 0, 'vl of record 0');
  }),
  decision('log.rd-ahead', 'ERR_RD ahead of ERR_WRT is an overflow', 'S-50', async (t) => {
    const context = await logged(t);
    t.write(Reg.ERR_RD, 1n);
    await errs(context);
    await t.until(() => t.log.status.ovf === 1, 'ovf');
    equal(t.log.written, 0n, 'ERR_WRT');
  }),
  decision('log.live', 'ERR_CFG written while ACTIVE counts at once', 'S-48', async (t) => {
    const context = await t.worker({}, { log: false });
    t.log.initialize();
    await context.fails(bad(), { step: 7, sub: 3 });
  }),
  requirement('log.any-order', 'the log may be set up in any order, and before activation or after', 'O-4', async (t) => {
    const block = t.mem.alloc('the error log', 4096, { align: 4096, rule: 'free' });
    t.log.initialize({ block });
    t.write(Reg.ERR_CFG, BigInt(block.iova) | 3n);
    t.write(Reg.ERR_CTL, 1n);
    const context = await t.worker({}, { log: { block } });
    await context.fails(bad(), { step: 7, sub: 3 });
  }),
);
