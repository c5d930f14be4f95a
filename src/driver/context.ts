import { checkLimits } from '../bus/checks.js';
import { ArgumentError, ClosedError, ContextError, SdxiError, TimeoutError } from '../errors.js';
import { ContextState, nameOf } from '../spec/codes.js';
import { maxBufferBytes } from '../spec/limits.js';
import { doorbellOffset } from '../spec/registers.js';
import { DescriptorBatch } from './batch.js';
import type { SavedPortion, Segment, Submission } from './completions.js';
import { ContextMemory, type SavedPlaces } from './context-memory.js';
import type { SdxiDriver } from './driver.js';
import type { ErrorRecord } from './errorlog.js';
import { type AKeyFields, AKeyTable } from './keys.js';
import { Ring } from './ring.js';
import { Phase } from './suspension.js';
import { type CompletionMode, Tracker } from './tracker.js';

/** What a context is made with. Encoded sizes as in CXT_L1_ENT. */
export interface ContextShape {
  readonly ringEntries: number;
  readonly akeySize: number;
  readonly maxBuffer: number;
  readonly pasid: number | undefined;
  readonly qos: number;
  readonly vector: number | undefined;
  readonly completion: CompletionMode;
  readonly autoRecover: boolean;
}

/** A context in a snapshot of its driver. */
export interface SavedContext {
  readonly number: number;
  /** Fields that are not there are null. */
  readonly shape: Omit<ContextShape, 'pasid' | 'vector'> & { readonly pasid: number | null; readonly vector: number | null };
  readonly places: SavedPlaces;
  /** As they stood in memory, which must say the same when the context is taken over. */
  readonly state: ContextState;
  readonly readIndex: number;
  readonly writeIndex: number;
  /** Stopped by `context.stop()`, and not by the suspension. */
  readonly stopped: boolean;
  /** Its error has been dealt with; it waits for `context.recover()`. */
  readonly down: boolean;
  /** What the driver had in the ring, oldest first. */
  readonly work: readonly SavedPortion[];
}

/** Options of one batch or submission. */
export interface BatchOptions {
  /** Bytes that the batch will move, if known: decides between polling and an interrupt. */
  bytes?: number;
}

export interface WorkOptions {
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** Slots that batches leave free: Read_Index may lag behind completions by the INTR and the descriptor in execution. */
const RESERVE = 16;
/** From this much work in flight on (some 50 µs) an interrupt costs less than polling. */
const INTERRUPT_BYTES = 512 * 1024;
/** A descriptor in execution ends at this pace at least; a soft stop waits for it (S-87). */
export const SLOWEST_BYTES_PER_MS = 1e6;

/** One context of a function: a ring, its keys, and the work in it. Made by `driver.createContext()`. */
export class Context {
  readonly number: number;
  readonly ring: Ring;
  readonly akeys: AKeyTable;
  readonly shape: ContextShape;
  /** Largest size of one descriptor. */
  readonly maxBufferBytes: number;
  /** @internal */
  readonly tracker: Tracker;
  private readonly driver: SdxiDriver;
  private readonly memory: ContextMemory;
  private readonly records: ErrorRecord[] = [];
  /** Batches that were begun and not submitted: their encoders write straight into the ring. */
  private begun = 0;
  private closing: Promise<void> | undefined;
  private stopped = false;
  /**
   * Runs of descriptors that were in the ring when the context was taken over from a snapshot, oldest first; `submission.done` tells
   * how each ends.
   */
  readonly inherited: readonly Segment[];

  /**
   * @internal Builds the structures and publishes the tables; starting it is the caller's.
   * @param saved takes structures over that are in memory already
   */
  constructor(driver: SdxiDriver, number: number, shape: ContextShape, saved?: SavedContext) {
    this.driver = driver;
    this.number = number;
    this.shape = shape;
    const { capabilities } = driver;
    this.maxBufferBytes = maxBufferBytes(Math.min(shape.maxBuffer, capabilities.maxBuffer));
    this.memory = new ContextMemory(driver.dma, shape, saved?.places);
    this.akeys = new AKeyTable(this.memory.keys);
    const doorbell = doorbellOffset(number, capabilities.dbStride);
    this.ring = Ring.attach(
      this.memory.share(number, doorbell),
      (writeIndex) => driver.bus.writeDoorbell(doorbell, writeIndex),
      this.memory,
    );
    this.tracker = new Tracker(this.trackerHost(), this.ring);
    this.inherited = this.tracker.inFlight.restore(saved?.work ?? []);
    if (saved) {
      this.stopped = saved.stopped;
      this.tracker.down = saved.down;
      this.checkMemory(saved);
      return;
    }
    this.akeys.write(0, shape.vector === undefined ? {} : { iv: 1, intr_num: shape.vector });
    this.memory.publishControl(shape.qos);
    driver.tables.publish(number, {
      ka: 1,
      pv: shape.pasid === undefined ? 0 : 1,
      cxt_ctl_ptr: this.memory.control.iova,
      akey_sz: shape.akeySize,
      akey_ptr: this.memory.keys.iova,
      cxt_pasid: shape.pasid ?? 0,
      max_buffer: shape.maxBuffer,
      opb_000_enb: capabilities.opGroups,
    });
  }

  /** @internal For a snapshot; the function is stopped. */
  save(): SavedContext {
    const { number, shape, memory, ring, stopped, tracker } = this;
    const { state, readIndex, writeIndex } = ring;
    return {
      number,
      shape: { ...shape, pasid: shape.pasid ?? null, vector: shape.vector ?? null },
      places: memory.save(),
      ...{ state, readIndex, writeIndex, stopped, down: tracker.down },
      work: tracker.inFlight.save(),
    };
  }

  /** Memory of another moment, or of something else, must not be run. @throws SdxiError ERR_SDXI_STATE */
  private checkMemory({ places, state, readIndex, writeIndex }: SavedContext): void {
    const { ring, memory, number, shape, driver } = this;
    const wrong = (what: string, saved: unknown, found: unknown): never => {
      throw new SdxiError('ERR_SDXI_STATE', `the memory is not that of the snapshot: ${what} of context ${number}`, {
        hint: 'give each region its own memory, as it was when the driver was suspended, in the order of snapshot.memory',
        fields: { context: number, saved, found },
      });
    };
    if (!driver.tables.leadTo(number, places.control, places.keys)) wrong('CXT_L1_ENT', places.control, undefined);
    if (!memory.isPublished(shape.qos)) wrong('CXT_CTL', places.ring, undefined);
    if (ring.state !== state) wrong('CXT_STS.state', nameOf(ContextState, state), nameOf(ContextState, ring.state));
    if (ring.readIndex !== readIndex) wrong('Read_Index', readIndex, ring.readIndex);
    // Producers of other processes may have claimed more since.
    if (ring.writeIndex < writeIndex) wrong('Write_Index', writeIndex, ring.writeIndex);
  }

  /** `sdxi0/cxt1`. */
  get name(): string {
    return `${this.driver.name}/cxt${this.number}`;
  }

  /** CXT_STS.state, as it stands in memory. */
  state(): ContextState {
    return this.ring.state;
  }

  readIndex(): number {
    return this.ring.readIndex;
  }

  writeIndex(): number {
    return this.ring.writeIndex;
  }

  /** Descriptors that a batch may have now. */
  get free(): number {
    return Math.min(this.ring.entries - RESERVE - this.tracker.inFlight.slots, this.ring.free - RESERVE);
  }

  /** Why no work can be submitted now: closed, broken, or the function has failed. */
  get failure(): Error | undefined {
    return this.closing ? new ClosedError(this.name) : (this.tracker.broken ?? this.driver.failed);
  }

  /** Largest batch that an empty ring takes. */
  get maxBatch(): number {
    return this.ring.entries - RESERVE;
  }

  /**
   * Claims descriptors for a batch.
   * @param count 1 … {@link maxBatch}
   * @throws SdxiError ERR_SDXI_BUSY when the ring has no room now; ArgumentError; ClosedError; the error that broke the context
   */
  begin(count: number, options: BatchOptions = {}): DescriptorBatch {
    this.assertUsable();
    if (!Number.isInteger(count) || count < 1 || count > this.maxBatch) {
      throw new ArgumentError(`a batch cannot have ${count} descriptors`, {
        hint: `1 … ${this.maxBatch} with this ring`,
        fields: { context: this.number, count },
      });
    }
    const interrupt = this.wantsInterrupt(options.bytes ?? 0);
    if (count > this.ring.entries - RESERVE - this.tracker.inFlight.slots) {
      throw new SdxiError('ERR_SDXI_BUSY', `${this.name} has no room for ${count} descriptors`, {
        hint: 'await earlier submissions first, or create the context with a larger ring',
        fields: { context: this.number, count, free: this.free },
      });
    }
    const first = this.ring.reserve(interrupt ? count + 1 : count);
    this.begun++;
    // With other producers in the ring a slot may come round before its completion was looked at; its block is written anew then.
    const { oldest } = this.tracker.inFlight;
    if (oldest && first + count - oldest.first > this.ring.entries) this.tracker.inFlight.collect();
    return new DescriptorBatch(this, first, count, interrupt);
  }

  /**
   * Copies `size` bytes from each of `sources` to the same place in `destinations` (DMA addresses), as one batch.
   * @throws what {@link begin} throws; EncodeError when a pair is impossible, and nothing is copied then
   */
  copyPairs(sources: Float64Array, destinations: Float64Array, size: number): Submission {
    const batch = this.begin(sources.length, { bytes: size * sources.length });
    try {
      batch.copyPairs(sources, destinations, size);
    } catch (error) {
      batch.abandon();
      throw error;
    }
    return batch.submit();
  }

  /**
   * Limits the time of a submission, and lets a signal end it. After a timeout the promise rejects at once and the descriptors are
   * taken back in the background; an abort rejects when nothing of it can run any more.
   * @returns the submission's promise
   */
  limit(submission: Submission, options: WorkOptions & { what?: string; hint?: string } = {}): Promise<void> {
    checkLimits(options);
    const { what = `work of ${this.name}`, timeoutMs = this.driver.options.timeoutMs, signal, hint } = options;
    return this.tracker.limit(submission, { what, timeoutMs, signal, hint });
  }

  /** Waits on the calling thread until a submission has settled. @throws TimeoutError; the error of the submission */
  spin(submission: Submission, timeoutMs: number): void {
    if (!this.tracker.spin(submission, timeoutMs)) {
      const error = this.tracker.broken ?? new TimeoutError(`work of ${this.name}`, timeoutMs);
      submission.settle(error);
      this.tracker.cancel(submission, error);
    }
    if (this.tracker.inFlight.oldest) this.tracker.watch();
    if (submission.error) throw submission.error;
  }

  /** Called whenever descriptors have left the ring, so that there may be room for more. */
  set onProgress(listener: () => void) {
    this.tracker.inFlight.onProgress = listener;
  }

  /** Descriptors in flight, and their bytes. */
  get inFlight(): { descriptors: number; bytes: number } {
    const { slots, bytes } = this.tracker.inFlight;
    return { descriptors: slots, bytes };
  }

  /** Looks for completions now, without waiting for whoever follows them. */
  poll(): void {
    this.tracker.inFlight.collect();
  }

  /** Takes the descriptors of a submission back; see {@link limit}. It settles with `error` when nothing of it can run any more. */
  cancel(submission: Submission, error: Error): void {
    this.tracker.cancel(submission, error);
  }

  /** @internal Waits until {@link begin} has room for `count` descriptors. @returns false when it has another reason to refuse them */
  async room(count: number, limit: Required<Pick<WorkOptions, 'timeoutMs'>> & WorkOptions & { what: string }): Promise<boolean> {
    await this.driver.bus.wait(() => this.failure !== undefined || this.free >= count, limit);
    return this.failure === undefined;
  }

  /** Resolves when nothing is in flight. */
  idle(): Promise<void> {
    return this.tracker.idle();
  }

  /** Changes a key that may be in use: entry, AKEY_UPD, SYNC. `undefined` frees it. */
  async updateKey(index: number, fields: AKeyFields | undefined, options: WorkOptions = {}): Promise<void> {
    if (fields) this.akeys.write(index, fields);
    else this.akeys.withdraw(index);
    await this.driver.admin.updateKeys(this.number, { keyFirst: index }, options);
    // Only now has the function forgotten what it was.
    if (!fields) this.akeys.free(index);
  }

  /**
   * Stops the context: CXT_STOP and SYNC.STOP. Softly, the descriptor in execution finishes; hard, it is abandoned and its submission
   * rejects. Other work stays in the ring and goes on after {@link start}.
   */
  async stop({ hard = false, ...options }: { hard?: boolean } & WorkOptions = {}): Promise<void> {
    this.assertUsable();
    this.assertOrdinary();
    const { tracker } = this;
    await tracker.exclusive(async () => {
      if (this.stopped) return;
      tracker.paused = true;
      try {
        await this.driver.admin.stop(this.number, { hard, ...this.patience(options) });
      } catch (error) {
        tracker.paused = false;
        throw error;
      }
      this.stopped = true;
      tracker.settleStopped(hard ? this.abandonedError() : undefined);
    });
  }

  /** Starts a stopped context; `resume` (default) also leaves ERR_FN. */
  async start({ resume = true, ...options }: { resume?: boolean } & WorkOptions = {}): Promise<void> {
    this.assertUsable();
    await this.tracker.exclusive(async () => {
      if (this.number === 0) this.jumpStart();
      else await this.driver.admin.start(this.number, { resume, doorbell: BigInt(this.ring.writeIndex), ...options });
      this.stopped = false;
      this.tracker.restarted();
    });
  }

  /** Brings a failed context back: rejects what failed and restarts. Contexts do this by themselves unless made with `autoRecover: false`. */
  async recover(): Promise<void> {
    this.assertOpen();
    this.assertAwake();
    await this.tracker.exclusive(() => this.tracker.recover({ always: true }));
  }

  /** Stops the context, rejects what is in flight, and gives everything back. Idempotent. */
  async close(): Promise<void> {
    if (!this.closing) {
      this.assertOrdinary();
      this.assertAwake();
      this.closing = this.tracker.exclusive(() => this.teardown());
    }
    try {
      await this.closing;
    } catch (error) {
      // A driver that is closed meanwhile closes its contexts.
      if (!this.driver.closed) throw error;
    }
  }

  private async teardown(): Promise<void> {
    const { driver, tracker, number } = this;
    tracker.paused = true;
    // A context that cannot be stopped may still write: its memory then stays allocated until the function is closed.
    if (!this.stopped && driver.running) await driver.admin.stop(number, this.patience({}));
    tracker.settleStopped();
    tracker.abort(new ClosedError(this.name));
    driver.tables.withdraw(number);
    this.memory.withdrawControl();
    if (driver.running) {
      await driver.admin.updateContexts(number, { l1: true });
      // The next context of this number has a key table of its own (F-12).
      await driver.admin.updateKeys(number, { keyFirst: 0, keyLast: 0xffff });
    }
    driver.forget(this);
    this.akeys.close();
    this.ring.close();
    // Whoever still holds a batch must not write into the ring of the next context.
    if (this.begun === 0) this.memory.free();
  }

  /** @internal Descriptors that were claimed and not submitted would block the ring where it goes. @throws SdxiError ERR_SDXI_STATE */
  assertSubmitted(): void {
    if (this.begun === 0) return;
    throw new SdxiError('ERR_SDXI_STATE', `${this.name} has ${this.begun} batches that were begun and not submitted`, {
      hint: 'submit or abandon them before you suspend the driver',
      fields: { context: this.number, batches: this.begun },
    });
  }

  /** @internal The function is back from a suspension. */
  unpark(): void {
    this.tracker.unpark({ paused: this.stopped });
  }

  /** @internal A batch is on its way, or never will be. */
  ended(): void {
    this.begun--;
  }

  /** All administration goes through context 0, the stop of a context too: it could not be brought back. */
  private assertOrdinary(): void {
    if (this.number !== 0) return;
    throw new SdxiError('ERR_SDXI_STATE', `${this.name} lives and runs as long as its function`, {
      hint: 'stop or close the driver instead',
    });
  }

  /** @internal The function is gone or stopped for good. */
  discard(error: Error): void {
    this.closing ??= Promise.resolve();
    this.akeys.close();
    this.tracker.lose(error);
  }

  /** @internal Makes context 0 run, or any context before the function is ACTIVE: stores RUN (ref §6.5). */
  storeState(state: ContextState): void {
    this.memory.storeState(state);
  }

  /** @internal */
  jumpStart(): void {
    this.storeState(ContextState.RUN);
    this.ring.ringDoorbell(this.ring.writeIndex);
  }

  /** @internal A record about this context, or about the target of an administrative descriptor. */
  takeNote(record: ErrorRecord): void {
    this.records.push(record);
    this.tracker.notice();
  }

  /** @internal The function has not answered in time. */
  functionSilent(): void {
    this.driver.functionSilent();
  }

  /** @internal The function has stopped: what it finished completes, the rest waits for its return. */
  functionHasStopped({ hard }: { hard: boolean }): void {
    this.tracker.settleStopped(hard ? this.abandonedError() : undefined);
  }

  /** @internal The function was re-activated: run again, or stay stopped. */
  async reactivate(): Promise<void> {
    if (this.stopped) return;
    this.storeState(ContextState.STOP_SW);
    await this.tracker.exclusive(() => this.tracker.restart());
  }

  /** @internal @throws ClosedError */
  assertOpen(): void {
    if (this.closing) throw new ClosedError(this.name);
  }

  private assertUsable(): void {
    const { failure } = this;
    if (failure) throw failure;
    this.assertAwake();
  }

  private assertAwake(): void {
    const { suspension } = this.driver;
    if (suspension.phase !== Phase.AWAKE) suspension.refuse(this.number);
  }

  private wantsInterrupt(bytes: number): boolean {
    const { vector, completion } = this.shape;
    if (vector === undefined || completion === 'polled') return false;
    return completion === 'interrupt' || bytes + this.tracker.inFlight.bytes >= INTERRUPT_BYTES;
  }

  /** A stop may have to wait for the work in flight. */
  private patience({ timeoutMs, signal }: WorkOptions): WorkOptions {
    const pace = this.tracker.inFlight.bytes / SLOWEST_BYTES_PER_MS;
    return { timeoutMs: timeoutMs ?? this.driver.options.adminTimeoutMs + pace, signal };
  }

  private abandonedError(): ContextError {
    return new ContextError('ERR_SDXI_CONTEXT', `${this.name}: the descriptor in execution was abandoned by a hard stop`, {
      hint: 'its destination may be partly written; submit it again',
      fields: {
        function: this.driver.name,
        context: this.number,
        index: this.ring.readIndex - 1,
        state: nameOf(ContextState, this.ring.state),
      },
    });
  }

  private trackerHost() {
    const { driver, number, shape, records } = this;
    const admin = () => driver.admin;
    return {
      bus: driver.bus,
      deadlines: driver.deadlines,
      functionName: driver.name,
      number,
      mode: shape.completion,
      vector: shape.vector,
      autoRecover: shape.autoRecover,
      takeRecord: () => {
        if (records.length === 0) driver.errorLog.drain();
        return records.shift();
      },
      halt: () => admin().stop(number, this.patience({})),
      restart: async () => {
        records.length = 0;
        if (number === 0) this.jumpStart();
        else await admin().start(number, { resume: true, doorbell: BigInt(this.ring.writeIndex) });
      },
      restartNow: () => {
        records.length = 0;
        if (number !== 0) return admin().startNow(number, BigInt(this.ring.writeIndex));
        this.jumpStart();
        return true;
      },
      functionStopped: () => driver.functionStopped(),
      functionSilent: () => driver.functionSilent(),
      watch: driver.watch,
    };
  }
}
