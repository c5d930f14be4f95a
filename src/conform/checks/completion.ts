import { Access } from '../../memory/index.js';
import { decision, equal, requirement, section, skip } from '../check.js';
import type { Csb } from '../context.js';
import { pattern } from '../memory.js';
import { copy, nop, patched, withCsb } from '../program.js';
import type { Rig } from '../rig.js';

/** Runs one NOP, and looks at the signal when its successor has completed. */
async function signalAfter(t: Rig, before: bigint, fields: Record<string, number> = {}, ctl: Record<string, number> = {}): Promise<Csb> {
  const context = await t.worker({ ctl });
  const csb = t.csb(before);
  context.submit(withCsb(nop(fields), csb.iova));
  await context.run(nop({ fe: 1 }));
  return csb;
}

const SIGNALS: [id: string, before: bigint, after: bigint, basis: string][] = [
  ['1', 1n, 0n, 'O-11'],
  ['ff', 0xffn, 0xfen, 'O-11'],
  ['100', 0x100n, 0xffn, 'ref §4.9'],
  ['borrow', 0x1_0000_0000n, 0xffff_ffffn, 'ref §4.9'],
  ['all-ones', 2n ** 64n - 1n, 2n ** 64n - 2n, 'ref §4.9'],
  ['wraps', 0n, 2n ** 64n - 1n, 'S-13'],
];

export const completionChecks = section(
  '4.9 Completion blocks',
  SIGNALS.map(([id, before, after, basis]) =>
    requirement(`csb.${id}`, `a signal of 0x${before.toString(16)} becomes 0x${after.toString(16)}`, basis, async (t) => {
      equal((await signalAfter(t, before)).signal, after, 'signal');
    }),
  ),
  requirement('csb.shared', 'descriptors that share a block decrement it once each', 'ref §4.9, §13.6 row 9', async (t) => {
    const context = await t.worker();
    const csb = t.csb(10);
    context.submit(...Array.from({ length: 10 }, () => withCsb(nop(), csb.iova)));
    await t.until(() => csb.signal === 0n, 'completion of 10 descriptors');
    await context.reached();
    equal(csb.signal, 0n, 'signal');
  }),
  requirement(
    'csb.shared-by-contexts',
    'two contexts share a block',
    'ref §4.9, §13.6 row 9',
    async (t) => {
      await t.activate();
      const contexts = [t.running(1), t.running(2)];
      const csb = t.csb(40);
      for (const context of contexts) context.submit(...Array.from({ length: 20 }, () => withCsb(nop(), csb.iova)));
      await t.until(() => csb.signal === 0n, 'completion of 40 descriptors');
      for (const context of contexts) await context.reached();
    },
    { needs: ['context2'] },
  ),
  requirement('csb.success-keeps-er', 'success leaves bytes 8 … 31 of the block untouched', 'ref §4.9', async (t) => {
    const context = await t.worker();
    const csb = t.csb();
    csb.block.put(
      8,
      pattern(24).map((b, i) => (i === 3 ? b & 0x7f : b)),
    );
    context.submit(withCsb(nop(), csb.iova));
    await context.completed(csb);
  }),
  decision('csb.er-sticky', 'er stays set until software clears it', 'ref §4.9', async (t) => {
    const context = await t.worker();
    const csb = t.csb();
    csb.block.put(11, [0x80]);
    context.submit(withCsb(nop(), csb.iova));
    await t.until(() => csb.signal === 0n, 'completion');
    await context.reached();
    equal(csb.er, true, 'er');
  }),
  requirement('csb.er', 'a descriptor that fails sets er before its signal', 'ref §4.9, O-11, SDXI 1.0 §5.6', async (t) => {
    const context = await t.worker();
    const csb = t.csb();
    context.submit(withCsb(nop({ subtype: 0x7f }), csb.iova));
    let er: boolean | undefined;
    await t.until(() => {
      if (csb.signal !== 0n) return false;
      er ??= csb.er;
      return true;
    }, 'signal');
    equal(er === true, true, 'er when the signal is seen at 0');
    await t.log.expect({ step: 7, sub: 3, context: context.number, index: 0 });
  }),
  requirement('csb.np', 'np = 1: no completion block is written', 'O-12', async (t) => {
    const context = await t.worker();
    const csb = t.csb(5);
    csb.block.want(0, [5]);
    context.submit(patched(withCsb(nop(), csb.iova), { 56: 1 }));
    await context.run(nop({ fe: 1 }));
    equal(csb.signal, 5n, 'signal of a block that np = 1 rules out');
  }),
  requirement('csb.np-garbage', 'np = 1: whatever else the qword says', 'O-12', async (t) => {
    const context = await t.worker();
    context.submit(patched(nop(), { 56: 0xe1, 57: 0xff, 58: 0xff, 59: 0xff, 60: 0xff, 61: 0xff, 62: 0xff, 63: 0xff }));
    await context.run(nop({ fe: 1 }));
  }),
  requirement('csb.32-aligned', 'blocks lie on any 32-byte boundary', 'ref §4.9, §11.4', async (t) => {
    const context = await t.worker();
    const block = t.mem.alloc('completion blocks', 128, { rule: 'csb' });
    for (let i = 0; i < 4; i++) block.putU64(32 * i, 1);
    for (let i = 0; i < 4; i++) context.submit(withCsb(nop(), block.iova + 32 * i));
    await context.reached();
    await context.run(nop({ fe: 1 }));
    for (let i = 0; i < 4; i++) equal(block.u64(32 * i), 0n, `signal of block ${i}`);
  }),
  requirement('csb.page-end', 'a block may be the last 32 bytes that are mapped', 'ref §4.9', async (t) => {
    const context = await t.worker();
    const block = t.mem.special('a completion block', 32, { offset: 4064, rule: 'csb' });
    block.putU64(0, 1);
    context.submit(withCsb(nop(), block.iova));
    await context.run(nop({ fe: 1 }));
    equal(block.u64(0), 0n, 'signal');
  }),
  requirement('csb.csr-without-csa', 'csr = 1 with csa = 0 decrements', 'ref §4.9', async (t) => {
    equal((await signalAfter(t, 0xffn, { csr: 1 }, { csa: 0 })).signal, 0xfen, 'signal');
  }),
  decision('csb.csr-without-cap', 'csr = 1 decrements if CAP0.cs_cap = 0', 'S-14', async (t) => {
    if (t.caps.csCap !== 0) skip('CAP0.cs_cap is not 0');
    equal((await signalAfter(t, 0xffn, { csr: 1 }, { csa: 1 })).signal, 0xfen, 'signal');
  }),
  decision('csb.csr-with-cap', 'csr = 1, csa = 1: the signal becomes 0 or one less', 'S-14', async (t) => {
    if (t.caps.csCap === 0) skip('CAP0.cs_cap is 0');
    const { signal } = await signalAfter(t, 0xffn, { csr: 1 }, { csa: 1 });
    if (signal !== 0n) equal(signal, 0xfen, 'signal');
  }),
  requirement('csb.data-first', 'when the signal is seen, the data is there', 'ref §6.3, SDXI 1.0 §5.6', async (t) => {
    const context = await t.worker();
    const source = t.mem.alloc('the source', 65536);
    source.put(0, pattern(65536));
    for (let i = 0; i < 10; i++) {
      const target = t.mem.alloc('the destination', 65536);
      target.want(0, source.expected);
      const csb = t.csb();
      context.submit(withCsb(copy(source.iova, target.iova, 65536), csb.iova));
      await t.until(() => csb.signal === 0n, 'completion');
      target.verify();
    }
    await context.reached();
  }),
  decision('csb.unreadable', 'a block needs read and write permission', 'ref §8.3 row 10', async (t) => {
    const context = await t.worker();
    const block = t.mem.special('a completion block', 32, { access: Access.READ });
    block.putU64(0, 1);
    const index = context.submit(withCsb(nop(), block.iova));
    await t.log.expect({ step: 8, sub: 2, context: context.number, index });
  }),
  requirement(
    'csb.none',
    'descriptors without a completion block are consumed all the same: every byte moved, every vl cleared',
    'ref §6.2, §6.4, O-8',
    async (t) => {
      const context = await t.worker();
      const source = t.mem.alloc('the source', 4096);
      const target = t.mem.alloc('the destination', 4096);
      source.put(0, pattern(4096));
      target.want(0, source.expected);
      const copies = Array.from({ length: 32 }, (_, i) => copy(source.iova + i * 128, target.iova + i * 128, 128, { np: 1 }));
      context.submit(...copies);
      await context.reached();
      await t.until(() => target.isAsExpected(), 'last byte of 32 copies');
      for (let index = 0; index < copies.length; index++) equal(context.valid(index), false, `vl of descriptor ${index}`);
      target.verify();
    },
    { options: ['clearValid'] },
  ),
);
