import { checkLimits, checkNames, checkOptions } from '../bus/checks.js';
import { Deadlines } from '../driver/deadlines.js';
import type { Capabilities, Context, SdxiDriver } from '../driver/index.js';
import { AbortError, ArgumentError, BusLostError, ClosedError, SdxiError } from '../errors.js';
import type { PinnableMemory } from '../memory/region.js';
import { DescriptorType } from '../spec/operations.js';
import { type Channel, type ChannelStats, Part } from './channel.js';
import { describe } from './info.js';
import type { MemoryTable, RegisterOptions, Registration } from './memory.js';
import { type AtomicName, type AtomicOperands, type BatchItem, oldValue, Planner, Work } from './planner.js';
import { OPERATION_OPTIONS, type OperationOptions, Request } from './request.js';
import { MoverSuspension } from './suspension.js';

/** One of the functions that a mover works with. */
export interface MoverFunction {
  readonly name: string;
  readonly uri: string;
  readonly capabilities: Capabilities;
  readonly driver: SdxiDriver;
  /** The context that the mover's work goes through. */
  readonly context: Context;
  readonly stats: Readonly<ChannelStats>;
}

/** What a batch has cost. */
export interface BatchResult {
  descriptors: number;
  bytes: number;
}

/** Work is spread over several functions in pieces of at least this size. */
const STRIPE_BYTES = 256 * 1024;
/** Fewer descriptors than this are not worth a second doorbell. */
const STRIPE_DESCRIPTORS = 64;
/** Time that is always granted to data on its way: half a GB/s. */
const MS_PER_BYTE = 2 / 2 ** 20;

const NOTHING: BatchResult = { descriptors: 0, bytes: 0 };

/**
 * Moves memory with one or several SDXI functions while the event loop goes on. Made by {@link open}.
 *
 * Views may be any typed arrays over memory from {@link alloc} or {@link register}. Operations of one mover are not ordered with each
 * other: await one before you start another that depends on it. The process stays alive while work is in flight, and may end when
 * there is none.
 */
export class Mover {
  private readonly memory: MemoryTable;
  private readonly planner: Planner;
  private readonly channels: readonly Channel[];
  /** Those that work is spread over. */
  private readonly shared: readonly Channel[];
  /** Virtual functions, which work when they are named. */
  private readonly virtual: ReadonlySet<Channel>;
  private readonly deadlines = new Deadlines();
  private readonly suspension: MoverSuspension;
  private readonly live = new Set<Request>();
  private readonly timeoutMs: number;
  private turn = 0;
  private closing: Promise<void> | undefined;

  /** @internal Use {@link open}. */
  constructor(channels: readonly Channel[], memory: MemoryTable, timeoutMs: number, virtual: ReadonlySet<Channel> = new Set()) {
    this.channels = channels;
    this.virtual = virtual;
    this.shared = channels.filter((channel) => !virtual.has(channel));
    this.memory = memory;
    this.timeoutMs = timeoutMs;
    this.suspension = new MoverSuspension(channels, this.deadlines);
    this.planner = new Planner(memory, Math.min(...channels.map(({ context }) => context.maxBufferBytes)));
    for (const { driver } of channels) {
      // A function that has failed is brought back; what was in flight there has been rejected.
      driver.onFailure((error) => {
        if (!this.closing && !(error instanceof BusLostError)) driver.recover().catch(() => {});
      });
    }
  }

  /**
   * Copies `source` to `destination`, which must be as long. Ranges may overlap: the result is that of memmove.
   * @throws ArgumentError; SdxiError ERR_SDXI_NOT_REGISTERED, ERR_SDXI_DETACHED; ContextError when the function reports an error;
   * TimeoutError, AbortError, FunctionError, BusLostError, ClosedError
   */
  async copy(source: ArrayBufferView, destination: ArrayBufferView, options?: OperationOptions): Promise<void> {
    const work = this.begin('copy', options);
    await this.run('copy', work, options, () => this.planner.copy(work, source, destination));
  }

  /**
   * Fills `destination` with a byte, or with a pattern whose length divides 4096 (REPCOPY).
   * @throws as {@link copy}
   */
  async fill(destination: ArrayBufferView, value: number | Uint8Array, options?: OperationOptions): Promise<void> {
    const work = this.begin('fill', options);
    await this.run('fill', work, options, () => this.planner.fill(work, destination, value));
  }

  /**
   * Writes 1 … 32 bytes that travel in the descriptor itself; `data` may be any memory and is read at once.
   * @throws as {@link copy}
   */
  async writeImmediate(destination: ArrayBufferView, data: Uint8Array, options?: OperationOptions): Promise<void> {
    const work = this.begin('writeImmediate', options);
    await this.run('writeImmediate', work, options, () => this.planner.writeImmediate(work, destination, data));
  }

  /**
   * One indivisible operation on 4 or 8 aligned bytes.
   * @returns the value before
   * @throws as {@link copy}; SdxiError ERR_SDXI_UNSUPPORTED when a function has no atomic group
   */
  async atomic(operation: AtomicName, target: ArrayBufferView, operands: AtomicOperands, options?: OperationOptions): Promise<bigint> {
    const work = this.begin('atomic', options);
    for (const { driver } of this.channels) {
      if ((driver.capabilities.opGroups & (1 << DescriptorType.ATOMIC)) !== 0) continue;
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', `${driver.name} has no atomic operations`, {
        hint: 'see functions[].capabilities.opGroups, bit 3',
      });
    }
    let value = 0n;
    const old = { read: () => 0n };
    await this.run(
      'atomic',
      work,
      options,
      () => {
        const scratch = this.planner.atomic(work, operation, target, operands);
        old.read = () => oldValue(scratch, target.byteLength);
      },
      () => {
        value = old.read();
      },
    );
    return value;
  }

  /**
   * Many operations, one promise: scatter and gather. Their order is open unless an element has `fence`.
   * @throws as {@link copy}, for the first one that fails; of the others some may have been done
   */
  async batch(items: readonly BatchItem[], options?: OperationOptions): Promise<BatchResult> {
    const work = this.begin('batch', options);
    if (typeof items?.[Symbol.iterator] !== 'function' || typeof items === 'string') {
      throw new ArgumentError('a batch is a list of operations', { hint: "pass an array of { op: 'copy', source, destination }, …" });
    }
    return await this.run('batch', work, options, () => {
      let number = 0;
      for (const item of items) {
        try {
          this.planner.item(work, item);
        } catch (error) {
          throw error instanceof SdxiError ? error.locate(`item ${number} of the batch`, { item: number }) : error;
        }
        number++;
      }
    });
  }

  /**
   * Zeroed memory that all functions of this mover can reach; an ordinary Buffer, aligned to 64 bytes unless asked for more. It stays
   * readable after {@link free} and {@link close}, as long as you hold it.
   * @param byteLength 1 … 2 GiB
   */
  alloc(byteLength: number, options: { alignment?: number } = {}): Buffer {
    this.assertOpen();
    checkOptions(options);
    checkNames(options, ['alignment']);
    return this.memory.alloc(byteLength, options.alignment ?? 64);
  }

  /** Gives memory from {@link alloc} back; work in flight on it is finished first. */
  free(buffer: ArrayBufferView): void {
    if (!this.closing) this.memory.free(buffer);
  }

  /**
   * Lets the functions work on memory of yours where it lies: exactly the bytes of the view. It is kept alive until the registration is
   * closed, and its ArrayBuffer is marked untransferable, which cannot be undone.
   * @throws ArgumentError for empty, detached or resizable memory, or more than 2 GiB
   */
  register(memory: PinnableMemory, options?: RegisterOptions): Registration {
    this.assertOpen();
    checkOptions(options);
    return this.memory.register(memory, options);
  }

  /** The functions of this mover: those it stripes over, and behind each its virtual functions (`sdxi0`, `sdxi0/vf1`, …). */
  get functions(): MoverFunction[] {
    return this.channels.map(({ driver, context, stats }) => ({
      name: driver.name,
      uri: driver.bus.uri,
      capabilities: driver.capabilities,
      driver,
      context,
      stats: { ...stats },
    }));
  }

  /** Sums over all functions, and what is under way. */
  stats(): ChannelStats & { inFlight: number; queued: number; functions: (ChannelStats & { name: string })[] } {
    const sum = { requests: 0, descriptors: 0, bytes: 0, doorbells: 0, errors: 0, inFlight: 0, queued: 0 };
    for (const { stats, context, queued } of this.channels) {
      for (const key of Object.keys(stats) as (keyof ChannelStats)[]) sum[key] += stats[key];
      sum.inFlight += context.inFlight.descriptors;
      sum.queued += queued;
    }
    return { ...sum, functions: this.channels.map(({ driver, stats }) => ({ name: driver.name, ...stats })) };
  }

  /** Limits, states and contexts of the functions as a tree that can be printed as JSON. */
  info(): Record<string, unknown> {
    return { functions: this.channels.map(({ driver }) => describe(driver)), memory: this.memory.summary() };
  }

  /**
   * Stops all functions until {@link resume}. The descriptor in execution finishes; all else that is under way stays where it is, and its
   * promises settle after the resume. Time stands still for the timeouts of what was under way; operations that are begun meanwhile wait,
   * and their timeouts and signals count as ever. Memory can be allocated, registered and freed. {@link close} of a suspended mover takes
   * back what is under way, as with `abort`.
   *
   * When one function cannot be suspended, none is.
   * @param options.hard abandon the descriptors in execution instead of waiting for them: what they belong to rejects with ContextError
   * @throws SdxiError ERR_SDXI_UNSUPPORTED when a bus cannot save its function; TimeoutError, AbortError, FunctionError, ClosedError
   */
  async suspend(options: OperationOptions & { hard?: boolean } = {}): Promise<void> {
    this.assertOpen();
    checkLimits(options);
    checkNames(options, ['hard', ...OPERATION_OPTIONS]);
    await this.suspension.suspend(options);
  }

  /** Goes on after {@link suspend}. @throws SdxiError ERR_SDXI_STATE when the mover is not suspended; TimeoutError, AbortError, FunctionError */
  async resume(options: OperationOptions = {}): Promise<void> {
    this.assertOpen();
    checkLimits(options);
    checkNames(options, OPERATION_OPTIONS);
    await this.suspension.resume(options);
  }

  /** Suspended, or on the way there. */
  get suspended(): boolean {
    return this.suspension.suspended;
  }

  /**
   * Refuses new work, waits for what is under way (each has its timeout), then stops and frees everything. Idempotent.
   * @param options.abort take back what is under way instead; it rejects with ClosedError
   */
  close(options?: { abort?: boolean }): Promise<void> {
    this.closing ??= this.shutDown();
    // What is under way in a suspended mover would never end.
    if (options?.abort || this.suspended) for (const request of [...this.live]) request.abort(new ClosedError('this mover'));
    return this.closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async shutDown(): Promise<void> {
    await Promise.allSettled([...this.live].map(({ promise }) => promise));
    // A virtual function goes with its physical one, so it goes first.
    const closed = await Promise.allSettled([...this.virtual].map(({ driver }) => driver.close()));
    closed.push(...(await Promise.allSettled(this.shared.map(({ driver }) => driver.close()))));
    this.deadlines.clear();
    this.memory.close();
    for (const result of closed) if (result.status === 'rejected') throw result.reason;
  }

  private begin(what: string, options: OperationOptions | undefined): Work {
    this.assertOpen();
    checkLimits(options);
    checkNames(options, OPERATION_OPTIONS);
    if (options?.function !== undefined) this.named(options.function);
    if (options?.signal?.aborted) throw new AbortError(what, { cause: options.signal.reason });
    return new Work();
  }

  /** Plans, sends off and waits. @param after runs while what the work holds is still held */
  private async run(
    what: string,
    work: Work,
    options: OperationOptions | undefined,
    plan: () => void,
    after?: () => void,
  ): Promise<BatchResult> {
    try {
      plan();
    } catch (error) {
      work.release();
      throw error;
    }
    const { count: descriptors, bytes } = work.plan;
    if (descriptors === 0) {
      work.release();
      return NOTHING;
    }
    await this.send(what, work, options, after);
    return { descriptors, bytes };
  }

  private send(what: string, work: Work, { timeoutMs, signal, function: name }: OperationOptions = {}, after?: () => void): Promise<void> {
    const { plan } = work;
    let pending = plan.bytes;
    for (const channel of this.channels) pending += channel.pendingBytes;
    const limit = timeoutMs ?? this.timeoutMs + pending * MS_PER_BYTE;
    const request = new Request(what, work, this.live, this.deadlines, limit, signal, after);
    const channels = name === undefined ? this.usable() : [this.named(name)];
    const wide = channels.length > 1 && !plan.ordered && (plan.bytes >= 2 * STRIPE_BYTES || plan.count >= 2 * STRIPE_DESCRIPTORS);
    if (wide) {
      const plans = plan.split(channels.length, STRIPE_BYTES);
      const first = this.turn++;
      request.start(plans.map((share, i) => new Part(share, channels[(first + i) % channels.length], request)));
    } else {
      request.start([new Part(plan, this.leastBusy(channels), request)]);
    }
    return request.promise;
  }

  /** The functions that are left, or all when none is: they say why. */
  private usable(): readonly Channel[] {
    const channels = this.shared;
    if (!channels.some((channel) => channel.lost)) return channels;
    const left = channels.filter((channel) => !channel.lost);
    return left.length > 0 ? left : channels;
  }

  private named(name: string): Channel {
    const found = this.channels.find(({ driver }) => driver.name === name);
    if (found) return found;
    throw new ArgumentError(`this mover has no function ${String(name)}`, {
      hint: `it has ${this.channels.map(({ driver }) => driver.name).join(', ')}`,
      fields: { function: name },
    });
  }

  private leastBusy(channels: readonly Channel[]): Channel {
    if (channels.length === 1) return channels[0];
    let best = channels[this.turn++ % channels.length];
    for (const channel of channels) if (channel.pendingBytes < best.pendingBytes) best = channel;
    return best;
  }

  private assertOpen(): void {
    if (this.closing) throw new ClosedError('this mover');
  }
}
