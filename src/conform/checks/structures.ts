import { Access } from '../../memory/index.js';
import { ContextState, CXT_L2_ENT, MMIO_CXT_L2, Reg } from '../../spec/index.js';
import { decision, equal, holds, requirement, section, skip } from '../check.js';
import type { ContextOptions } from '../context.js';
import { type BlockRule, pattern } from '../memory.js';
import { anything, copy, nop, patched, withCsb } from '../program.js';
import type { Rig } from '../rig.js';

const { RUN, STOP_SW } = ContextState;

/** Structures that a function must not need to write, with the structure of the context that they are. */
const READ_ONLY = [
  ['cxt-ctl', 'control', 64, 'ref §4.0'],
  ['akeys', 'akeys', 4096, 'ref §4.0'],
] as const;

/** Reserved bits of structures: byte to set them in, and where. S-1 */
const RESERVED: [id: string, what: string, (t: Rig) => Promise<void>][] = [
  [
    'l2-ent',
    'CXT_L2_ENT',
    async (t) => {
      await t.activate();
      const context = t.context(t.caps.maxContext === 0 ? 0 : 1, { state: RUN });
      const entry = CXT_L2_ENT.encode({ vl: 1, lv01_ptr: t.level1(0).iova });
      t.l2.putU64(0, new DataView(patched(entry, { 0: 0xfe, 1: 0x0f }).buffer).getBigUint64(0, true));
      context.doorbell();
      await context.run(nop());
    },
  ],
  [
    'l1-ent',
    'CXT_L1_ENT',
    async (t) => {
      const context = await t.worker({
        l1: { reserved: `18${'00'.repeat(7)}f00f${'00'.repeat(8)}0000ff${'00'.repeat(5)}${'ff'.repeat(8)}`.slice(0, 64) },
      });
      await context.run(nop());
    },
  ],
  [
    'cxt-ctl',
    'CXT_CTL',
    async (t) => {
      const context = await t.worker({
        ctl: { reserved: `02${'00'.repeat(11)}ffffffff0f${'00'.repeat(7)}07${'00'.repeat(7)}${'ff'.repeat(32)}` },
      });
      await context.run(nop());
    },
  ],
  [
    'akey-ent',
    'AKEY_ENT',
    async (t) => {
      const context = await t.worker();
      context.akey(1, { reserved: `0080${'00'.repeat(4)}f01f0000ffff0000ffff`.slice(0, 32) });
      const target = t.mem.alloc('the destination', 64);
      target.want(0, t.l2.bytes.subarray(0, 64));
      await context.run(copy(t.l2.iova, target.iova, 64, { akey0: 1, akey1: 1 }));
    },
  ],
  [
    'descriptor-header',
    'a descriptor: bits 7:6 and 31:27',
    async (t) => {
      const context = await t.worker();
      await context.run(patched(nop(), { 0: 0xc0, 3: 0xf8 }));
    },
  ],
  [
    'descriptor-body',
    'a descriptor: the body of a NOP',
    async (t) => {
      const context = await t.worker();
      await context.run(patched(nop(), Object.fromEntries(Array.from({ length: 52 }, (_, i) => [4 + i, 0xff]))));
    },
  ],
  [
    'descriptor-footer',
    'a descriptor: the bits beside csb_ptr',
    async (t) => {
      const context = await t.worker();
      const csb = t.csb();
      context.submit(patched(withCsb(nop(), csb.iova), { 56: 0x1e }));
      await context.completed(csb);
    },
  ],
];

/** A context whose structure lies at the end of a page of its own: nothing behind it may be touched. */
function atPageEnd(t: Rig, byteLength: number, rule: BlockRule) {
  return t.mem.special('a structure at the end of its page', byteLength, { offset: 4096 - byteLength, rule });
}

export const structureChecks = section(
  '4 Structures',
  requirement('tables.first-entries', 'context 0 is L2 entry 0, L1 entry 0', 'ref §4.1', async (t) => {
    await t.activate();
    await t.admin.run(nop());
  }),
  requirement(
    'tables.entry-7f',
    'a context number is L2 index 15:7 and L1 index 6:0',
    'ref §4.1',
    async (t) => {
      await t.activate();
      for (const number of [127, 128, 129, 511, t.caps.maxContext].filter((n) => n <= t.caps.maxContext)) {
        await t.running(number).run(nop());
      }
    },
    { needs: ['level1'] },
  ),
  requirement(
    'tables.highest',
    'the highest context that CAP1 promises works',
    'ref §2.8, §4.1',
    async (t) => {
      await t.activate();
      await t.running(t.caps.maxContext).run(nop());
    },
    { needs: ['context1'] },
  ),
  requirement(
    'tables.one-level1',
    'one level-1 table is enough',
    'O-30',
    async (t) => {
      await t.activate();
      for (const number of [1, Math.min(t.caps.maxContext, 127)]) await t.running(number).run(nop());
    },
    { needs: ['context1'] },
  ),
  requirement('tables.l2.read-only', 'the level-2 table is only read', 'ref §4.0', async (t) => {
    t.l2 = t.mem.special('the level-2 table', 4096, { access: Access.READ });
    await (await t.worker()).run(nop());
  }),
  requirement('tables.l1.read-only', 'a level-1 table is only read', 'ref §4.0', async (t) => {
    t.useLevel1(0, t.mem.special('level-1 table 0', 4096, { access: Access.READ }));
    await (await t.worker()).run(nop());
  }),
  requirement('write-index.read-only', 'Write_Index is only read', 'ref §4.0, §4.6', async (t) => {
    const context = await t.worker({ writeIndex: t.mem.special('Write_Index', 8, { access: Access.READ }) });
    await context.run(nop(), nop());
  }),
  READ_ONLY.map(([id, key, byteLength, basis]) =>
    decision(`${id}.read-only`, `${key === 'control' ? 'CXT_CTL' : 'the AKey table'} is only read`, `${basis}, S-12`, async (t) => {
      const context = await t.worker({ [key]: t.mem.special(id, byteLength, { access: Access.READ }) });
      const target = t.mem.alloc('the destination', 64);
      target.want(0, context.ring.bytes.subarray(64, 128));
      await context.run(copy(context.ring.iova + 64, target.iova, 64));
    }),
  ),
  requirement('cxt-l2.low-bits', 'bits 11:0 of CXT_L2 are ignored', 'O-3, ref §2.10', async (t) => {
    await t.activate({ admin: false });
    t.write(Reg.CXT_L2, MMIO_CXT_L2.fields ? t.l2.iova + 0xfff : 0);
    const context = t.context(0, { state: RUN });
    context.doorbell();
    await context.run(nop());
  }),
  requirement('registers.reserved-ignored', 'reserved bits of RKEY and ERR_CTL are ignored', 'O-3', async (t) => {
    const context = await t.worker();
    t.write(Reg.RKEY, 0xfe0n);
    t.write(Reg.ERR_CTL, 0xffff_ffff_ffff_fffen);
    await context.fails(nop({ subtype: 0x7f }), { step: 7, sub: 3 });
    equal(t.delivered(0), 0, 'interrupts with intr_en = 0');
  }),
  RESERVED.map(([id, what, run]) =>
    decision(`reserved.${id}`, `reserved bits are ignored in ${what}`, 'S-1', run, { options: ['strictReserved'] }),
  ),
  (
    [
      ['l1.ka-0', 'ka = 0', { l1: { ka: 0 } }, 'ref §4.3'],
      ['l1.max-buffer-11', 'max_buffer = 11, whatever the function can', { l1: { max_buffer: 11 } }, 'O-24'],
      ['l1.opb-0', 'NOP and COPY with an empty operation bitmap', { l1: { opb_000_enb: 0 } }, 'O-16'],
      ['ctl.se-0', 'se = 0', { ctl: { se: 0 } }, 'ref §4.4, §15'],
      ['ctl.csa-0', 'csa = 0', { ctl: { csa: 0 } }, 'ref §4.4, §15'],
      ['ctl.qos', 'any qos', { ctl: { qos: 3 } }, 'ref §4.4'],
    ] as [string, string, ContextOptions, string][]
  ).map(([id, what, options, basis]) =>
    requirement(id, `a context works with ${what}`, basis, async (t) => {
      const context = await t.worker(options);
      const source = t.mem.alloc('the source', 4096);
      const target = t.mem.alloc('the destination', 4096);
      source.put(0, pattern(4096));
      target.want(0, source.expected);
      await context.run(nop(), copy(source.iova, target.iova, 4096));
    }),
  ),
  decision('l1.max-buffer', 'max_buffer of the level-1 entry limits the size', 'ref §5.3, §4.3', async (t) => {
    if (t.caps.maxBuffer === 0) skip('CAP1.max_buffer is 0, there is nothing smaller');
    const context = await t.worker({ l1: { max_buffer: 0 } });
    await context.fails(copy(t.mem.hole, t.mem.hole + 2 ** 24, 2 ** 21 + 1), { step: 7, sub: 3 });
  }),
  requirement(
    'l1.before-ctl',
    'a level-1 entry may be valid before its CXT_CTL, until the context is rung',
    'O-27',
    async (t) => {
      await t.activate();
      const context = t.context(1, { state: RUN });
      context.publishControl({ vl: 0 });
      await t.admin.run(nop());
      context.publishControl();
      context.doorbell();
      await context.run(nop());
    },
    { needs: ['context1'] },
  ),
  requirement(
    'l1.added-later',
    'contexts are added to a live function without an update operation',
    'O-15, ref §4.11',
    async (t) => {
      await t.activate();
      for (const number of [1, 2, 3]) await t.running(number).run(nop());
    },
    { needs: ['context3'] },
  ),
  requirement(
    'l1.invalid-not-remembered',
    'an entry that was found invalid is looked at again',
    'O-15',
    async (t) => {
      await t.activate();
      const context = t.context(1, { state: RUN });
      context.withdraw();
      context.doorbell();
      await t.log.expect({ step: 3, sub: 3, context: 1 });
      context.publish();
      context.doorbell();
      await context.run(nop());
    },
    { needs: ['context1'] },
  ),
  requirement('status.rsh', 'rsh and the reserved bytes of CXT_STS keep their values', 'ref §4.5', async (t) => {
    const status = t.mem.alloc('CXT_STS', 16, { rule: 'status' });
    const context = await t.worker({ status });
    status.put(1, [0x01, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x99]);
    await context.run(nop());
  }),
  decision('status.upper-nibble', 'bits 7:4 of the state byte are ignored', 'S-59', async (t) => {
    await t.activate();
    const context = t.context(t.caps.maxContext === 0 ? 0 : 1, { state: STOP_SW });
    context.status.put(0, [0xf1]);
    context.doorbell();
    await context.run(nop());
  }),
  decision('status.single-byte', 'the function writes the state as one byte with the upper nibble 0', 'ref §4.5, S-59', async (t) => {
    const context = await t.worker();
    context.status.put(1, [0x01, 0x5a]);
    await context.fails(nop({ subtype: 0x7f }), { step: 7, sub: 3 });
    equal(context.status.u8(0), ContextState.ERR_FN, 'byte 0 of CXT_STS');
    equal(context.status.u8(2), 0x5a, 'byte 2 of CXT_STS');
  }),
  requirement('status.16-aligned', 'CXT_STS needs 16-byte alignment only, CXT_CTL 64, Write_Index 8', 'ref §4.0', async (t) => {
    const status = t.mem.special('CXT_STS', 16, { offset: 0x230, rule: 'status' });
    const control = t.mem.special('CXT_CTL', 64, { offset: 0x140 });
    const writeIndex = t.mem.special('Write_Index', 8, { offset: 0x418 });
    await (await t.worker({ status, control, writeIndex })).run(nop());
  }),
  requirement('status.page-end', 'CXT_STS, CXT_CTL and Write_Index may end with the last mapped byte', 'ref §4.0', async (t) => {
    const context = await t.worker({
      status: atPageEnd(t, 16, 'status'),
      control: atPageEnd(t, 64, 'fixed'),
      writeIndex: atPageEnd(t, 8, 'fixed'),
    });
    await context.run(nop());
  }),
  requirement(
    'index.starts-anywhere',
    'a context may start with any Read_Index',
    'ref §4.5',
    async (t) => {
      for (const index of [1, 1023, 1024, 123_456_789]) {
        if (t.caps.maxContext === 0 && index > 1) break;
        if (index === 1) await t.worker({ index });
        const context = index === 1 && t.caps.maxContext === 0 ? t.admin : t.running(1, { index, state: RUN });
        await context.run(nop());
        equal(context.readIndex, index + 1, 'Read_Index');
        if (t.caps.maxContext > 0) {
          await t.admin.run(anything(2, 4, { fe: 1, reserved: `${'00'.repeat(8)}01000100${'00'.repeat(52)}` }));
          await context.becomes(STOP_SW);
        }
      }
    },
    { needs: ['context1'], options: ['cache'] },
  ),
  requirement('index.64-bit', 'indexes have 64 bits: a context crosses 2^32', 'ref §4.5, §4.6', async (t) => {
    const context = await t.worker({ index: 2 ** 32 - 2 });
    await context.run(nop(), nop(), nop(), nop());
    equal(context.readIndex, 2 ** 32 + 2, 'Read_Index');
  }),
  requirement('ring.minimum', 'a ring of 1,024 descriptors works', 'ref §4.0', async (t) => {
    await (await t.worker({ entries: 1024 })).run(nop());
  }),
  decision('ring.any-size', 'a ring may have any number of descriptors from 1,024 up', 'S-40', async (t) => {
    if (t.caps.maxRingEntries < 1025) skip('CAP0.max_ds_ring_sz allows 1,024 only');
    const context = await t.worker({ entries: 1025, index: 1022 });
    await context.run(nop(), nop(), nop(), nop(), nop());
  }),
  requirement('ring.64-aligned', 'a ring may start on any 64-byte boundary', 'ref §4.0, §11.4', async (t) => {
    const ring = t.mem.special('the ring', 65536, { offset: 0x240, rule: 'ring' });
    const context = await t.worker({ ring, index: 1020 });
    await context.run(...Array.from({ length: 8 }, () => nop()));
  }),
  decision('ring.largest', 'a ring of the size that CAP0 promises is accepted', 'ref §2.7, S-78', async (t) => {
    const context = await t.worker({ entries: t.caps.maxRingEntries });
    await context.run(nop(), nop());
  }),
  requirement('akeys.second-page', 'akey_sz = 1 gives 512 keys', 'ref §4.3', async (t) => {
    if (t.caps.maxAkeySize < 1) skip('CAP1.max_akey_sz is 0');
    const akeys = t.mem.alloc('the AKey table', 8192, { align: 4096 });
    const context = await t.worker({ akeys, l1: { akey_sz: 1 } });
    context.akey(511, {});
    const target = t.mem.alloc('the destination', 16);
    target.want(0, akeys.expected.subarray(0, 16));
    await context.run(copy(akeys.iova, target.iova, 16, { akey0: 511, akey1: 511 }));
  }),
  requirement('akeys.last-key', 'key 255 of a table of 256 works', 'ref §4.3', async (t) => {
    const context = await t.worker();
    context.akey(255, {});
    const target = t.mem.alloc('the destination', 16);
    target.want(0, context.akeys.expected.subarray(0, 16));
    await context.run(copy(context.akeys.iova, target.iova, 16, { akey0: 255, akey1: 0 }));
    holds(target.isAsExpected(), 'the copy under key 255 went wrong');
  }),
);
