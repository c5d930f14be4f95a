import type { FunctionConfig } from '../function/config.js';

/** What can be said of a fault in a plan: `F-1:every=10,context=3`. */
export const PARAMETERS = {
  every: 'each so many-th time that it could happen; default 1',
  after: 'not the first so many times; default 0',
  count: 'so many times at most; default without limit',
  context: 'in this context only; default in all',
  vector: 'this interrupt vector only; default all',
  ms: 'how long, in milliseconds',
  value: 'what is shown instead',
} as const;
export type Parameter = keyof typeof PARAMETERS;

export interface Fault {
  /** `F-2`. */
  readonly id: string;
  readonly title: string;
  /** A device can make it happen. */
  readonly provokable: boolean;
  /** Why a device cannot, or need not. */
  readonly reason: string;
  /** What a plan may say of it, with its default where it has one of its own. */
  readonly parameters: readonly Parameter[];
  readonly defaults: Partial<Record<Parameter, number>>;
  /** It is a choice of the function: in force from its opening. */
  readonly config?: Partial<FunctionConfig>;
  /** Vectors that the bus has then. */
  readonly vectors?: number;
  /** What the function does. */
  readonly does: string;
  /** What a wrong driver does then. */
  readonly exposes: string;
  /** How to use it against a driver. */
  readonly use: string;
}

const COUNTING = ['every', 'after', 'count'] as const;
const IN_CONTEXT = [...COUNTING, 'context'] as const;

type Draft = Partial<Fault> & Pick<Fault, 'title' | 'does' | 'exposes' | 'use'>;

function fault(number: number, draft: Draft): Fault {
  return { id: `F-${number}`, provokable: true, reason: '', parameters: [], defaults: {}, ...draft };
}

/** One that no device can or need provoke. */
function beyond(number: number, reason: string, draft: Draft): Fault {
  return fault(number, { ...draft, provokable: false, reason });
}

/** The fault catalogue: ref §12, in its order. */
export const FAULTS: readonly Fault[] = [
  fault(1, {
    title: 'a completion is held back',
    parameters: [...IN_CONTEXT, 'ms'],
    defaults: { ms: 1500 },
    does: 'The descriptor executes and Read_Index moves on, but its signal is decremented only `ms` later, if its block is still mapped then.',
    exposes:
      'The client gives up after a second and frees the block; the late write lands in memory that is somebody else’s by then. Or it waits for ever.',
    use: 'Free or unmap completion blocks only when their signal is final, or the context has stopped. Watch the block after your time-out.',
  }),
  fault(2, {
    title: 'a COPY fails',
    parameters: IN_CONTEXT,
    does: 'A COPY moves nothing; its block gets er = 1, then the signal; the context goes to ERR_FN with a record of step 10.',
    exposes: 'An interrupt path that does not look at er reports the transfer as done.',
    use: 'Verify data after each transfer that was reported as done; `every=100` leaves most of them alone.',
  }),
  fault(3, {
    title: 'a COPY fails while its client polls',
    parameters: IN_CONTEXT,
    does: 'As F-2. What differs is the client: it polls the status while the interrupt is handled.',
    exposes: 'Polling says error, the interrupt path says done: results that contradict each other, or a second completion.',
    use: 'Poll in one thread and take interrupts in another, and compare what both have been told.',
  }),
  fault(4, {
    title: 'execution is delayed',
    parameters: [...IN_CONTEXT, 'ms'],
    defaults: { ms: 1500 },
    does: 'A descriptor lies in its ring, with vl = 1, for `ms` before it is executed.',
    exposes: 'terminate_all does not stop work that was issued: it runs after the client has reused its buffers.',
    use: 'Terminate, fill the destination with something else, wait longer than `ms`, and look whether it changed.',
  }),
  fault(5, {
    title: 'Read_Index stands still',
    parameters: ['context', 'after', 'every', 'count'],
    does: 'Descriptors execute and complete, but Read_Index in memory is not written any more.',
    exposes: 'The ring looks full: an uninterruptible wait, or a time-out without a way out.',
    use: 'Submit more than a ring holds, with a time-out, and cancel it.',
  }),
  beyond(6, 'none needed: a function has to wait at a slot without vl, and does', {
    title: 'a slot that was reserved and never filled',
    does: 'Nothing special: the function waits at the slot.',
    exposes: 'All later descriptors of the ring stall behind a producer that died.',
    use: 'Let a producer reserve a slot and end; see whether your driver fills it with a NOP or stops the context.',
  }),
  fault(7, {
    title: 'vl is not cleared',
    config: { clearValid: 'off' },
    does: 'Consumed descriptors keep vl = 1 (option `clearValid=off`).',
    exposes: 'After a lap, a slot that is claimed but not yet written is executed a second time.',
    use: 'Run several producers over several laps of the ring and compare data.',
  }),
  fault(8, {
    title: 'RESET in STOP comes late',
    parameters: ['ms', ...COUNTING],
    defaults: { ms: 5 },
    does: 'A RESET that is requested in STOP, which does nothing otherwise (O-7), takes the registers back `ms` later.',
    exposes: 'Registers that were just programmed revert: activation fails, or runs with a level-2 table at 0.',
    use: 'Bring the function up; a careful driver reads back what it wrote, or asks for RESET only where it is needed.',
  }),
  fault(9, {
    title: 'a soft stop never finishes',
    parameters: COUNTING,
    does: 'The function stays in STOPG_SF until STOP_HD or RESET is requested.',
    exposes: 'A time-out, and no escalation to STOP_HD in the same call.',
    use: 'Unload the driver and see that it gets the function to STOP before it frees memory.',
  }),
  fault(10, {
    title: 'activation takes more than a second',
    parameters: ['ms', ...COUNTING],
    defaults: { ms: 1500 },
    does: 'The function stays in INIT for `ms`, then becomes ACTIVE.',
    exposes: 'The probe fails and frees its structures; the device becomes ACTIVE with stale pointers.',
    use: 'After the failed probe, see that the function was asked to stop, and reached STOP, before anything was freed.',
  }),
  fault(11, {
    title: 'old copies of context structures',
    config: { cache: 'sticky' },
    does: 'Entries of levels 2 and 1 and CXT_CTL are read once and kept until an update names them (option `cache=sticky`).',
    exposes: 'Old ring and control addresses are used when a context number is used again: CXT_UPD and SYNC are missing.',
    use: 'Close and make contexts again, with other rings.',
  }),
  fault(12, {
    title: 'old copies of AKey entries',
    config: { cache: 'sticky' },
    does: 'AKey entries are kept until AKEY_UPD names them (option `cache=sticky`).',
    exposes: 'An interrupt goes to the vector that the key named before: AKEY_UPD is missing.',
    use: 'Change the vector or PASID of a key that was used.',
  }),
  fault(13, {
    title: 'SYNC never completes',
    parameters: ['ms', ...COUNTING],
    does: 'A SYNC on the ring of context 0 is not executed, for `ms` if that is given.',
    exposes: 'Channel free ignores the failure and frees ring and tables of a running context.',
    use: 'Free a channel and see that its memory stays mapped as long as the function may use it.',
  }),
  fault(14, {
    title: 'the function fails after activation',
    parameters: ['ms', ...COUNTING],
    defaults: { ms: 0 },
    does: 'An internal error takes the function to GSV_ERROR, `ms` after it became ACTIVE.',
    exposes: 'A probe that fails late leaves the function as it is, or frees the memory of context 0 before it has stopped.',
    use: 'Bring the function up, and look at what is freed in which order.',
  }),
  fault(15, {
    title: 'an error interrupt out of the blue',
    parameters: IN_CONTEXT,
    does: 'Vector 0 is raised with a descriptor, and no record is there.',
    exposes: 'A channel that owns vector 0 takes it for its own, and error interrupts get lost.',
    use: 'Count completions against interrupts.',
  }),
  fault(16, {
    title: 'no interrupt operations',
    config: { opGroups: 0x8 },
    does: 'CAP1.opb_000_cap has no bit 4: an INTR is a validation failure.',
    exposes: 'A driver that does not look appends an INTR to each transfer, and each stops its context.',
    use: 'Run transfers with interrupts wanted.',
  }),
  beyond(17, 'none needed: the value of a doorbell is only a hint, and Write_Index decides (S-9)', {
    title: 'doorbell values that decrease',
    does: 'Nothing special: values are not compared.',
    exposes: 'A device that takes the last or the largest value literally loses work of concurrent producers.',
    use: 'Ring from several threads without a lock.',
  }),
  beyond(18, 'none needed: addresses near 2^64 are an error of their buffer at once (S-103)', {
    title: 'copy addresses near 2^64',
    does: 'Nothing special: such a copy fails with step 10.',
    exposes: 'An overlap check that wraps lets it through, or refuses what is right.',
    use: 'Submit copies whose ranges end at 2^64.',
  }),
  fault(19, {
    title: 'one error record',
    parameters: IN_CONTEXT,
    does: 'A record that stops nothing (informative) is logged with a descriptor, and the error interrupt raised.',
    exposes: 'A handler that writes 0xB to ERR_WRT instead of ERR_STS loops for ever, with a pointer out of its log.',
    use: 'Let it come once (`count=1`), and see that the handler ends and the next record is read.',
  }),
  beyond(20, 'none needed: the function always moves size + 1 bytes, as SDXI 1.0 says', {
    title: 'copy sizes taken exactly',
    does: 'Nothing special: the size field holds bytes − 1.',
    exposes: 'An encoder that stores the size itself overwrites one byte behind its destination.',
    use: 'Keep guard bytes behind every destination.',
  }),
  fault(21, {
    title: 'signals are overwritten with 0',
    parameters: IN_CONTEXT,
    does: 'A completion writes 0 into signal instead of taking 1 from it.',
    exposes: 'A client that waits for 0xFE hangs; one that shares a block among descriptors is told too early.',
    use: 'Use blocks with a signal of more than 1.',
  }),
  fault(22, {
    title: 'INIT takes its time',
    parameters: ['ms', ...COUNTING],
    defaults: { ms: 100 },
    does: 'The function stays in INIT for `ms`; doorbells that come meanwhile count afterwards (S-10).',
    exposes: 'A driver that does not wait submits into INIT.',
    use: 'Ring right after the request for ACTIVE.',
  }),
  fault(23, {
    title: 'reserved bits are errors',
    config: { strictReserved: 'on' },
    does: 'Descriptors and table entries with reserved bits set are refused (option `strictReserved`).',
    exposes: 'Activation fails, or descriptors do, where memory was not cleared.',
    use: 'Fill the memory that structures are made in with garbage first.',
  }),
  fault(24, {
    title: 'more than 128 contexts',
    config: { maxContext: 511 },
    does: 'CAP1.max_cxt is 511: contexts from 128 on have other level-1 tables.',
    exposes: 'A level-2 index computed with a shift of 9: contexts 128 … 511 get the wrong table.',
    use: 'Make 200 contexts and run work on the last.',
  }),
  fault(25, {
    title: 'the error log is a page longer than ERR_CFG.sz',
    config: { errlog: 'pagesMinus1' },
    does: 'ERR_CFG.sz counts pages − 1 (option `errlog=pagesMinus1`, S-6).',
    exposes: 'A driver that counts the other way has records written behind its buffer.',
    use: 'Leave more than 64 errors unread, with guards behind the log.',
  }),
  fault(26, {
    title: 'small limits',
    config: { maxBuffer: 0, maxErrorLog: 0 },
    does: 'CAP1 allows buffers of 2 MiB and one page of error log.',
    exposes: 'A driver that believes in twice the real limit has its copies refused.',
    use: 'Copy more than 2 MiB at once.',
  }),
  fault(27, {
    title: 'doorbells far apart',
    config: { dbStride: 1 },
    does: 'CAP0.db_stride is 1: doorbells lie 8 KiB apart.',
    exposes: 'A mapping of one page is refused, or the wrong context is rung.',
    use: 'Use two contexts at once.',
  }),
  fault(28, {
    title: 'rings of up to 2^32 descriptors',
    config: { maxRing: 22 },
    does: 'CAP0.max_ds_ring_sz is 22.',
    exposes: 'A 32-bit count of ring entries becomes 0.',
    use: 'Ask your driver for the largest ring.',
  }),
  fault(29, {
    title: 'Read_Index runs ahead of execution',
    config: { readIndex: 'early' },
    does: 'vl and Read_Index move before a descriptor executes (option `readIndex=early`, S-28).',
    exposes:
      'Completion blocks that belong to ring slots are armed again while the older descriptor still executes: a completion lost, or one too many.',
    use: 'Keep the ring full, with one block a slot.',
  }),
  beyond(30, 'the order in which a reader without barriers sees memory is a property of its CPU, not of the device', {
    title: 'weakly ordered memory',
    does: 'Nothing: this machine decides.',
    exposes: 'A barrier in the wrong place.',
    use: 'Run the driver on a weakly ordered CPU.',
  }),
  fault(31, {
    title: 'the error log cannot be written',
    parameters: COUNTING,
    does: 'A record is lost; ERR_STS.err is set and the error interrupt raised.',
    exposes: 'A handler that returns without clearing ERR_STS sees no error interrupt again.',
    use: 'Provoke another error afterwards (F-2).',
  }),
  fault(32, {
    title: 'corrupt error records',
    parameters: [...COUNTING, 'value'],
    defaults: { value: 0 },
    does: 'A record has vl = 0 (`value=0`) or a type that is not 0x7F7 (`value=1`), or ERR_WRT is far ahead of ERR_RD (`value=2`).',
    exposes: 'Bad records are printed as if they were true, or a loop runs over 2^n entries.',
    use: 'Provoke errors (F-2) and read the log.',
  }),
  fault(33, {
    title: 'Read_Index beyond Write_Index',
    parameters: [...IN_CONTEXT, 'value'],
    defaults: { value: 5000 },
    does: 'Read_Index in memory is `value` too large.',
    exposes: 'A ring that seems to have more room than it has: slots are overwritten, or reservations fail for ever.',
    use: 'Submit after it has happened.',
  }),
  fault(34, {
    title: 'a function state that does not exist',
    parameters: [...COUNTING, 'value'],
    defaults: { value: 6 },
    does: 'STS0.fn_gsv reads 6 or 7 (`value`).',
    exposes: 'It is treated like STOP, and a RESET follows; or an error without a way back.',
    use: 'Let it come while the driver waits for a state (`after=2`).',
  }),
  fault(35, {
    title: 'a context state that does not exist',
    parameters: [...IN_CONTEXT, 'value'],
    defaults: { value: 3 },
    does: 'CXT_STS.state gets `value` (3, 5, 7 …) where the function writes a state.',
    exposes: 'A poll until time-out.',
    use: 'Stop a context.',
  }),
  beyond(36, 'nothing would show it: this version’s buses have no IOMMU that reports what it refuses', {
    title: 'DMA while in STOP',
    does: 'Nothing.',
    exposes: 'IOMMU faults at boot, as real firmware once caused.',
    use: 'Look for faults of the IOMMU between power-on and activation.',
  }),
  fault(37, {
    title: 'few contexts and few vectors',
    config: { maxContext: 2 },
    vectors: 2,
    does: 'There are contexts 0, 1 and 2, and two interrupt vectors.',
    exposes: 'A positive error code leaks out and is taken for success when more channels are wanted.',
    use: 'Ask for more channels than there are.',
  }),
  fault(38, {
    title: 'the function is in a group at probe',
    config: { groupId: 7 },
    does: 'CTL0.fn_grp_id is 7 at power-on.',
    exposes: 'CTL0 written with 0 wipes the group id: remote access breaks.',
    use: 'Read CTL0 after your driver has activated the function.',
  }),
  fault(39, {
    title: 'unfenced descriptors complete out of order',
    config: { reorder: 'on' },
    does: 'Up to eight descriptors of a context are in flight, and complete in any order that fences allow (option `reorder`).',
    exposes: 'Earlier transfers are reported as done because a later one is.',
    use: 'Verify data at each completion.',
  }),
  beyond(40, 'none needed: rings wrap', {
    title: 'ring wrap',
    does: 'Nothing special.',
    exposes: 'A Write_Index that starts again at 0 is an error of step 6, or a ring that is full for ever.',
    use: 'Submit more descriptors than the ring has.',
  }),
  beyond(41, 'allocations fail in the driver’s own kernel', {
    title: 'allocation failures at channel creation',
    does: 'Nothing.',
    exposes: 'The AKey allocator is used before it is set up.',
    use: 'Use the fault injection of your kernel (failslab).',
  }),
  beyond(42, 'cache coherence is a property of the host; here memory is coherent', {
    title: 'a host without cache coherence',
    does: 'Nothing.',
    exposes: 'Tables or log are seen stale where streaming maps are not synchronized.',
    use: 'Run with DMA API debugging on.',
  }),
  fault(43, {
    title: 'completion at the time-out',
    parameters: [...IN_CONTEXT, 'ms'],
    defaults: { ms: 1000 },
    does: 'As F-1, for just as long as drivers wait: the signal comes at the deadline.',
    exposes: 'A time-out is reported although the condition has become true: no last look after the deadline.',
    use: 'Set `ms` to your time-out, and vary it by a few.',
  }),
  fault(44, {
    title: 'interrupts dropped or doubled',
    parameters: [...COUNTING, 'vector', 'value'],
    defaults: { value: 0 },
    does: 'An interrupt is delivered `value` times: 0 drops it, 2 doubles it.',
    exposes: 'Stalled work where there is no watchdog; a repeat is harmless, or counted twice.',
    use: 'Run transfers with `every=10`.',
  }),
  fault(45, {
    title: 'an interrupt before its completion',
    parameters: IN_CONTEXT,
    does: 'A signal is decremented only after the next interrupt was delivered, against ref §6.3.',
    exposes: 'The completion is missed until another interrupt comes.',
    use: 'Run one transfer at a time, with interrupts.',
  }),
  fault(46, {
    title: 'CXT_START is refused',
    parameters: COUNTING,
    does: 'A CXT_START starts nothing and completes with er = 1.',
    exposes: 'A poll that looks at signal only reports the start as successful.',
    use: 'Make a channel and see whether it is refused.',
  }),
  fault(47, {
    title: 'a context fails under load',
    parameters: IN_CONTEXT,
    does: 'The descriptor at hand fails with an internal error (step INT), which takes its context to ERR_FN in the middle of its ring.',
    exposes: 'Nobody starts it again: what is left never completes.',
    use: 'Run load with `after=1000,count=1`.',
  }),
  fault(48, {
    title: 'half a copy, then an error',
    parameters: IN_CONTEXT,
    does: 'A COPY writes the first half of its destination and fails then.',
    exposes: 'A client that takes a failed transfer for one that did nothing.',
    use: 'Compare the destination after the error.',
  }),
  fault(49, {
    title: 'the device is gone',
    parameters: COUNTING,
    does: 'Every register reads all ones.',
    exposes: 'A state of 7, nonsense in VERSION and CAP; loops that never end.',
    use: 'Let it come in the middle of work (`after=20`).',
  }),
  beyond(50, 'software wrote the tables: each context behaves by its own entry, and nothing is there to detect', {
    title: 'structures shared by two contexts',
    does: 'Nothing special.',
    exposes: 'Two contexts fight for one ring.',
    use: 'Check your tables before you publish them.',
  }),
];

/** Faults whose moment comes once in an opening or a stop: there is no `every` in their examples. */
const RARE = ['F-8', 'F-9', 'F-10', 'F-13', 'F-14', 'F-22', 'F-34', 'F-35', 'F-46', 'F-49'];

/** A URI that shows a fault; undefined for one that cannot be provoked. */
export function exampleOf({ id, provokable, config, parameters }: Fault): string | undefined {
  if (!provokable) return undefined;
  const often = !config && parameters.includes('every') && !RARE.includes(id);
  return `embedded:?faults=${id}${often ? ':every=10' : ''}`;
}

/** By id, `F-2` or `f-2`. */
export function findFault(id: string): Fault | undefined {
  return FAULTS.find((known) => known.id === id.trim().toUpperCase());
}
