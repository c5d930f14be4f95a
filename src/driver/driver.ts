import type { Bus } from '../bus/bus.js';
import { checkDuration, checkLimits, checkMode, checkOptions } from '../bus/checks.js';
import { snapshotting } from '../bus/snapshot.js';
import { AbortError, ArgumentError, BusLostError, ClosedError, SdxiError } from '../errors.js';
import type { Access } from '../memory/address-space.js';
import type { RegionSource } from '../memory/arena.js';
import type { Region } from '../memory/region.js';
import { ContextState, type FunctionState, FunctionState as State } from '../spec/codes.js';
import { RING_MIN, TABLE_BYTES } from '../spec/limits.js';
import { DescriptorType } from '../spec/operations.js';
import { Reg } from '../spec/registers.js';
import { activate, type Capabilities, chooseLimits, functionState, type Limits, prepare, readVersion, stopFunction } from './activate.js';
import { AdminQueue } from './admin.js';
import { Context, type ContextShape, type SavedContext, SLOWEST_BYTES_PER_MS, type WorkOptions } from './context.js';
import { Deadlines } from './deadlines.js';
import { type DmaBuffer, type DmaRange, DmaSpace, IovaSpace } from './dma.js';
import { ErrorWatch } from './error-watch.js';
import { ERROR_LOG_BYTES, ErrorLog, type ErrorRecord } from './errorlog.js';
import { functionError } from './errors.js';
import { type Grant, RKeyTable } from './keys.js';
import { makeRkeys, programRkeys } from './remote.js';
import { type DriverSnapshot, readSnapshot, regionsFor, type SnapshotMemory, saveDriver } from './snapshot.js';
import { Phase, type SuspendOptions, Suspension } from './suspension.js';
import { ContextTables } from './tables.js';
import type { CompletionMode } from './tracker.js';

export interface DriverOptions {
  /** Default: `sdxi0`, `sdxi1`, … the lowest that is free in this process. */
  name?: string;
  /** Limits to choose in CTL2; default: all that the function has. */
  limits?: Limits;
  /** For administrative operations and state changes; default 1000. */
  adminTimeoutMs?: number;
  /** For data operations that name no timeout; default 30000. */
  timeoutMs?: number;
  /** Consents to other functions of the group that are wanted, rounded up to 256 × 2^n; default 256. See {@link SdxiDriver.grant}. */
  rkeys?: number;
  /** Addresses from a space that other functions draw from too. */
  iovas?: IovaSpace;
  /**
   * Where the driver's own memory comes from, in pieces of 16 MiB and more, or as the bus advises; default: what the bus advises, else a
   * memfd for each. @see openRegion
   */
  regions?: RegionSource;
  /** Ends the opening. */
  signal?: AbortSignal;
}

/** What {@link SdxiDriver.resume} takes besides the snapshot. Limits, rings and keys are those of the snapshot. */
export interface ResumeOptions extends Omit<DriverOptions, 'limits'> {
  /** The memory of the snapshot. */
  memory: SnapshotMemory;
}

export interface ContextOptions extends WorkOptions {
  /** Any number from 1024 up to capabilities.maxRingEntries; default 1024. */
  ringEntries?: number;
  /** Access keys that are wanted, rounded up to 256 × 2^n; default 256. */
  akeys?: number;
  /** Encoded limit of one buffer, 2^(n+21) bytes; default the function's. */
  maxBuffer?: number;
  /** Take an interrupt vector; default: if the function has INTR and a vector is free. */
  vector?: boolean;
  /** Address space of ring, completion blocks and default translation. */
  pasid?: number;
  /** CXT_CTL.qos, 0 … 3, 3 most urgent; default 0. What it does is up to the function: SDXI 1.0 does not say (S-45). */
  qos?: number;
  /** Default adaptive. */
  completion?: CompletionMode;
  /** Recover after an error without being asked; default true. */
  autoRecover?: boolean;
}

const names = new Set<string>();
/** Open drivers are held: a function may access their memory even when the program has forgotten them. */
const opened = new Set<SdxiDriver>();

function takeName(wanted: string | undefined): string {
  let name = wanted;
  for (let n = 0; name === undefined; n++) if (!names.has(`sdxi${n}`)) name = `sdxi${n}`;
  names.add(name);
  return name;
}

/** One function, owned: activated, with its contexts, memory and error log. */
export class SdxiDriver {
  readonly bus: Bus;
  readonly name: string;
  readonly dma: DmaSpace;
  /** @internal */
  readonly deadlines = new Deadlines();
  /** @internal */
  readonly watch: ErrorWatch;
  /** @internal */
  readonly options: { readonly adminTimeoutMs: number; readonly timeoutMs: number; readonly limits: Limits; readonly rkeys: number };
  /** @internal */
  readonly suspension: Suspension;
  private readonly byNumber = new Map<number, Context>();
  private readonly vectorsInUse = new Set<number>([0]);
  private readonly faultListeners = new Set<(error: Error) => void>();
  private caps!: Capabilities;
  private log!: ErrorLog;
  private logIova = 0;
  private queue!: AdminQueue;
  private contextTables!: ContextTables;
  private rkeys: RKeyTable | undefined;
  private active = false;
  private failure: Error | undefined;
  private closing: Promise<void> | undefined;
  private recovering: Promise<void> | undefined;

  /**
   * Takes a function over: stops it if it runs, and activates it in the order of ref §3.4.
   * The bus belongs to the driver then and is closed with it, also when this fails.
   * @throws FunctionError, TimeoutError, AbortError, SdxiError ERR_SDXI_UNSUPPORTED, ERR_SDXI_MAPPING
   */
  static async open(bus: Bus, options: DriverOptions = {}): Promise<SdxiDriver> {
    return SdxiDriver.own(bus, options, (driver) => driver.bringUp(options.signal));
  }

  /**
   * Takes the place of a driver that was suspended, in whatever process: the function of the bus becomes the one of the snapshot, comes
   * back ACTIVE, and goes on with what is in the rings (ref §10). Contexts have their numbers, rings and keys; their `inherited` work
   * tells how it ends. From here on the driver that was suspended must not touch the memory: close it.
   * The bus belongs to the driver then and is closed with it, also when this fails; memory is untouched then unless the function had
   * been activated.
   * @param snapshot what {@link suspend} returned, or its JSON
   * @throws SdxiError ERR_SDXI_STATE for a snapshot of another version, that was changed, of a function with other capabilities, or with
   * memory of another moment; ERR_SDXI_UNSUPPORTED when the bus cannot restore; ArgumentError for memory that is missing; and what
   * {@link open} throws
   */
  static resume(bus: Bus, snapshot: DriverSnapshot | string, options: ResumeOptions): Promise<SdxiDriver> {
    let saved: DriverSnapshot | undefined;
    const read = (): DriverOptions => {
      checkOptions(options);
      saved = readSnapshot(snapshot);
      const { name, limits } = saved.driver;
      return { ...options, limits, name: options?.name ?? (names.has(name) ? undefined : name) };
    };
    return SdxiDriver.own(bus, read, (driver) => driver.takeOver(saved as DriverSnapshot, options ?? {}));
  }

  /** A driver on a bus that is closed if anything goes wrong. */
  private static async own(
    bus: Bus,
    given: DriverOptions | (() => DriverOptions),
    begin: (driver: SdxiDriver) => Promise<void>,
  ): Promise<SdxiDriver> {
    if (typeof bus?.readRegister !== 'function') {
      throw new ArgumentError('a driver needs a bus', { hint: "pass what openBus('embedded:') resolves to" });
    }
    let driver: SdxiDriver;
    try {
      const options = typeof given === 'function' ? given() : given;
      checkLimits(options);
      checkOptions(options.limits, 'limits');
      if (options.regions !== undefined && typeof options.regions !== 'function')
        throw new ArgumentError('regions is no function', { hint: 'pass (byteLength) => region, or leave it out' });
      checkDuration(options.adminTimeoutMs, 'adminTimeoutMs');
      if (options.iovas !== undefined && !(options.iovas instanceof IovaSpace))
        throw new ArgumentError('iovas are no IovaSpace', {
          hint: 'pass new IovaSpace(), one for all drivers that share memory, or leave it out',
        });
      if (options.name !== undefined && typeof options.name !== 'string')
        throw new ArgumentError('the name is no string', { hint: 'leave it out for sdxi0, sdxi1, …' });
      driver = new SdxiDriver(bus, options);
    } catch (error) {
      await bus.close();
      throw error;
    }
    bus.ref();
    try {
      await begin(driver);
      opened.add(driver);
      return driver;
    } catch (error) {
      await driver.close().catch(() => {});
      throw error;
    } finally {
      bus.unref();
    }
  }

  private constructor(bus: Bus, options: DriverOptions) {
    this.bus = bus;
    const { adminTimeoutMs = 1000, timeoutMs = 30_000, limits = {}, rkeys = 256 } = options;
    this.options = { adminTimeoutMs, timeoutMs, limits, rkeys };
    this.name = takeName(options.name);
    this.dma = new DmaSpace(bus, options.iovas, options.regions);
    this.suspension = new Suspension({
      driver: this,
      bus,
      setActive: (active) => {
        this.active = active;
      },
    });
    this.watch = new ErrorWatch(bus, {
      interrupted: () => {
        this.log.drain();
        if (this.active && this.state() === State.ERROR) this.functionStopped();
      },
      lost: (error) => this.lost(error),
    });
  }

  /** Limits and features, as far as the driver uses them. */
  get capabilities(): Capabilities {
    return this.caps;
  }

  get contexts(): ReadonlyMap<number, Context> {
    return this.byNumber;
  }

  get admin(): AdminQueue {
    return this.queue;
  }

  get errorLog(): ErrorLog {
    return this.log;
  }

  /** @internal */
  get tables(): ContextTables {
    return this.contextTables;
  }

  /** @internal close() was called. */
  get closed(): boolean {
    return this.closing !== undefined;
  }

  /** The function is ACTIVE as far as the driver knows. */
  get running(): boolean {
    return this.active && !this.failure;
  }

  /** STS0.fn_gsv, read now. */
  state(): FunctionState {
    return functionState(this.bus);
  }

  private async bringUp(signal?: AbortSignal): Promise<void> {
    const { bus, name, options, dma } = this;
    const limit = { timeoutMs: options.adminTimeoutMs, signal };
    await stopFunction(bus, name, limit);
    this.caps = chooseLimits(bus, prepare(bus, name), options.limits); // (pre), 1.a, 1.b
    this.contextTables = new ContextTables(dma); // 2.a, 2.b
    bus.writeRegister(Reg.CXT_L2, BigInt(this.contextTables.level2.iova)); // 2.c
    this.contextTables.ensureLevel1(0); // 3
    const shape: ContextShape = {
      ringEntries: RING_MIN,
      akeySize: 0,
      maxBuffer: this.caps.maxBuffer,
      pasid: undefined,
      qos: 0,
      vector: undefined,
      completion: 'polled',
      autoRecover: true,
    };
    const context = new Context(this, 0, shape); // 4.a
    this.byNumber.set(0, context);
    this.queue = new AdminQueue(context, options.adminTimeoutMs);
    context.storeState(ContextState.RUN); // 4.b; 5 and 6: nothing
    this.keepLog(dma.allocate(ERROR_LOG_BYTES, TABLE_BYTES));
    this.log.initialize(); // 7
    this.watch.arm();
    await activate(bus, name, limit); // 9
    this.active = true;
    context.jumpStart(); // 10.b
  }

  private keepLog(memory: DmaBuffer): void {
    this.log = new ErrorLog(this.bus, memory);
    this.logIova = memory.iova;
    this.log.listen((record) => this.dispatch(record));
  }

  /** Everything is checked before anything is stored in memory: only activation and what follows does that. */
  private async takeOver(saved: DriverSnapshot, { memory, signal }: ResumeOptions): Promise<void> {
    const { dma, name, options } = this;
    const bus = snapshotting(this.bus);
    const regions = regionsFor(saved.memory, memory);
    saved.memory.forEach((entry, i) => {
      dma.adopt(entry, regions[i]);
    });
    bus.restore(saved.function);
    this.caps = chooseLimits(bus, readVersion(bus, name), options.limits); // the limits of the snapshot: CTL2 stays as it is
    this.contextTables = new ContextTables(dma, saved.driver.tables);
    this.keepLog(dma.at(saved.driver.errorLog));
    if (saved.driver.rkeys !== null) this.rkeys = new RKeyTable(dma.at(saved.driver.rkeys));
    for (const context of saved.contexts) this.adopt(context);
    this.queue = new AdminQueue(this.byNumber.get(0) as Context, options.adminTimeoutMs);
    this.watch.arm();
    this.suspension.phase = Phase.ASLEEP;
    this.suspension.complete = true;
    await this.suspension.resume({ timeoutMs: options.adminTimeoutMs, signal });
  }

  private adopt(saved: SavedContext): void {
    const { number } = saved;
    const pasid = saved.shape.pasid ?? undefined;
    const vector = saved.shape.vector ?? undefined;
    if (vector !== undefined && vector >= this.bus.vectors) {
      throw new SdxiError(
        'ERR_SDXI_STATE',
        `context ${number} of the snapshot uses vector ${vector}, and this bus has ${this.bus.vectors}`,
        {
          hint: 'open the bus with as many vectors as the one that was saved (embedded:?vectors=n)',
          fields: { context: number, vector, vectors: this.bus.vectors },
        },
      );
    }
    if (pasid !== undefined) this.dma.bindPasid(pasid);
    if (vector !== undefined) this.vectorsInUse.add(vector);
    this.byNumber.set(number, new Context(this, number, { ...saved.shape, pasid, vector }, saved));
  }

  /**
   * Makes a context and starts it.
   * @throws ArgumentError, SdxiError ERR_SDXI_RESOURCE when no number is free; TimeoutError, AbortError, ContextError
   */
  async createContext(options: ContextOptions = {}): Promise<Context> {
    this.assertUsable();
    this.assertAwake();
    checkLimits(options);
    const shape = this.shapeOf(options);
    const number = this.freeNumber();
    const l2 = this.contextTables.ensureLevel1(number);
    const context = new Context(this, number, shape);
    this.byNumber.set(number, context);
    if (shape.vector !== undefined) this.vectorsInUse.add(shape.vector);
    try {
      if (shape.pasid !== undefined) this.dma.bindPasid(shape.pasid);
      await this.queue.publish(number, { l2, timeoutMs: options.timeoutMs, signal: options.signal });
    } catch (error) {
      await context.close().catch(() => {});
      throw error;
    }
    return context;
  }

  private shapeOf(options: ContextOptions): ContextShape {
    const { caps, bus } = this;
    const {
      ringEntries = RING_MIN,
      akeys = 256,
      maxBuffer = caps.maxBuffer,
      pasid,
      qos = 0,
      completion = 'adaptive',
      autoRecover = true,
    } = options;
    const check = (what: string, value: number, least: number, most: number): void => {
      if (Number.isInteger(value) && value >= least && value <= most) return;
      throw new ArgumentError(`${what} cannot be ${String(value)}`, {
        hint: `${least} … ${most} with this function`,
        fields: { [what]: value },
      });
    };
    checkMode(completion);
    check('ringEntries', ringEntries, RING_MIN, caps.maxRingEntries);
    check('akeys', akeys, 1, caps.maxAkeys);
    check('maxBuffer', maxBuffer, 0, 15);
    check('qos', qos, 0, 3);
    if (pasid !== undefined) check('pasid', pasid, 0, 0xfffff);
    const hasInterrupts = (caps.opGroups & (1 << DescriptorType.INTR)) !== 0;
    let vector: number | undefined;
    if (options.vector ?? hasInterrupts) {
      for (let v = 1; v < bus.vectors && vector === undefined; v++) if (!this.vectorsInUse.has(v)) vector = v;
    }
    if (options.vector && (vector === undefined || !hasInterrupts)) {
      throw new SdxiError('ERR_SDXI_RESOURCE', `${this.name} has no interrupt vector for another context`, {
        hint: 'close a context, or poll for completions (vector: false)',
      });
    }
    return { ringEntries, akeySize: Math.max(0, Math.ceil(Math.log2(akeys)) - 8), maxBuffer, pasid, qos, vector, completion, autoRecover };
  }

  private freeNumber(): number {
    for (let n = 1; n <= this.caps.maxContext; n++) if (!this.byNumber.has(n)) return n;
    throw new SdxiError('ERR_SDXI_RESOURCE', `all ${this.caps.maxContext} contexts of ${this.name} are in use`, {
      hint: 'close one, or do with fewer (sdxi test: fewer --threads); a function with more has a higher maxContext (sdxi serve: --max-cxt)',
    });
  }

  /** Lets the function access memory. @param at DMA address from the driver's {@link IovaSpace} */
  map(region: Region, access?: Access, at?: number): DmaRange {
    this.assertOpen();
    return this.dma.map(region, access, at);
  }

  /** DMA memory, zeroed. */
  allocate(byteLength: number, alignment?: number): DmaBuffer {
    this.assertOpen();
    return this.dma.allocate(byteLength, alignment);
  }

  /** A piece of memory that {@link allocate} has handed out, perhaps before the driver was suspended. @throws ArgumentError */
  bufferAt(iova: number): DmaBuffer {
    this.assertOpen();
    return this.dma.at(iova);
  }

  /** The memory that the function may reach, in the order of `memory` of a snapshot taken now. */
  get regions(): Region[] {
    return this.dma.regions;
  }

  /**
   * Lets another function of the group reach memory of this one, or raise one of its interrupts: until {@link revoke}, in every
   * activation. The other side uses it with an AKey of `{ tgt_sfunc: <capabilities.sfunc of this>, rkey }`. Ref §7.1.
   * @returns the RKey
   * @throws SdxiError ERR_SDXI_UNSUPPORTED for a function without remote keys, ERR_SDXI_RESOURCE when all are in use; EncodeError
   */
  grant(grant: Grant): number {
    this.assertUsable();
    this.assertAwake();
    if (!this.rkeys) {
      this.rkeys = makeRkeys(this.dma, this.caps, { name: this.name, rkeys: this.options.rkeys });
      programRkeys(this.bus, this.rkeys);
    }
    return this.rkeys.allocate(grant);
  }

  /** Takes consent back. Once it resolves nobody reaches this function under that RKey (S-112). @throws as {@link AdminQueue} */
  async revoke(rkey: number, options: WorkOptions = {}): Promise<void> {
    this.assertUsable();
    this.assertAwake();
    if (!this.rkeys) throw new ArgumentError(`remote key ${rkey} cannot be revoked`, { hint: 'nothing was granted' });
    this.rkeys.withdraw(rkey);
    await this.queue.updateRemoteKeys({ keyFirst: rkey }, options);
    this.rkeys.free(rkey);
  }

  /** Called when the function as a whole fails; {@link recover} may bring it back. */
  onFailure(listener: (error: Error) => void): () => void {
    this.faultListeners.add(listener);
    return () => this.faultListeners.delete(listener);
  }

  /**
   * Stops the function (ref §3.5). Work that has not run stays in the rings; {@link recover} goes on with it. A hard stop abandons the
   * descriptors in execution.
   */
  async stop({ hard = false, timeoutMs = this.options.adminTimeoutMs, signal }: { hard?: boolean } & WorkOptions = {}): Promise<void> {
    this.assertOpen();
    this.assertAwake();
    checkLimits({ timeoutMs, signal });
    for (const context of this.byNumber.values()) context.tracker.paused = true;
    this.active = false;
    const abandoned = await stopFunction(this.bus, this.name, { hard, timeoutMs, signal });
    for (const context of this.byNumber.values()) context.functionHasStopped({ hard: abandoned });
  }

  /**
   * Stops the function with all its contexts, so that it can go on later, here ({@link resume}) or in another process
   * ({@link SdxiDriver.resume}): ref §10. The descriptor in execution finishes, or with `hard` is abandoned and its submission rejects;
   * everything behind it stays in the rings and remains pending. Time stands still for its timeouts until the driver is resumed; signals
   * still end it. Until then new batches, contexts and administrative operations are refused with ERR_SDXI_STATE.
   *
   * A soft stop may take as long as a descriptor takes. Should the time run out, the stop goes on: resume, suspend again (perhaps hard) or
   * close the driver.
   * @param options.timeoutMs default: the driver's adminTimeoutMs, and 1 ms for each MB in flight
   * @throws SdxiError ERR_SDXI_UNSUPPORTED when the bus cannot save a function, ERR_SDXI_STATE when a batch was begun and not submitted, or
   * when the driver was stopped; TimeoutError, AbortError, FunctionError, BusLostError, ClosedError
   */
  async suspend({ hard = false, timeoutMs, signal }: SuspendOptions = {}): Promise<DriverSnapshot> {
    this.assertUsable();
    checkLimits({ timeoutMs, signal });
    if (signal?.aborted) throw new AbortError('suspending', { cause: signal.reason });
    snapshotting(this.bus);
    await this.recovering;
    if (!this.active && this.suspension.phase === Phase.AWAKE) {
      throw new SdxiError('ERR_SDXI_STATE', `${this.name} is stopped`, { hint: 'bring it back first (driver.recover)' });
    }
    await this.suspension.suspend({ hard, timeoutMs: timeoutMs ?? this.patience(), signal });
    this.assertOpen();
    return saveDriver(this, { limits: this.options.limits, errorLog: this.logIova, rkeys: this.rkeys?.iova });
  }

  /**
   * Goes on after {@link suspend}: the function is ACTIVE again, and every context that the suspension has stopped runs.
   * @throws SdxiError ERR_SDXI_STATE when the driver is not suspended, or the function was used meanwhile; TimeoutError, AbortError,
   * FunctionError, ContextError, BusLostError, ClosedError
   */
  async resume(options: WorkOptions = {}): Promise<void> {
    this.assertUsable();
    checkLimits(options);
    if (options.signal?.aborted) throw new AbortError('resuming', { cause: options.signal.reason });
    await this.suspension.resume({ timeoutMs: options.timeoutMs ?? this.patience(), signal: options.signal });
  }

  /** Suspended, or on the way there. */
  get suspended(): boolean {
    return this.suspension.phase !== Phase.AWAKE;
  }

  /** A stop may have to wait for the work in flight. */
  private patience(): number {
    let bytes = 0;
    for (const { inFlight } of this.byNumber.values()) bytes += inFlight.bytes;
    return this.options.adminTimeoutMs + bytes / SLOWEST_BYTES_PER_MS;
  }

  /**
   * Brings the function back from ERROR, from a reset, or after {@link stop}: STOP, activation, error log, contexts. After an error or a
   * reset all work in flight rejects with FunctionError; contexts keep their numbers, rings and keys. One recovery at a time: who comes
   * later joins in.
   */
  async recover(options: WorkOptions = {}): Promise<void> {
    this.assertOpen();
    checkLimits(options);
    this.recovering ??= this.bringBack(options).finally(() => {
      this.recovering = undefined;
    });
    await this.recovering;
  }

  private async bringBack(options: WorkOptions): Promise<void> {
    const { bus, name } = this;
    const limit = { timeoutMs: options.timeoutMs ?? this.options.adminTimeoutMs, signal: options.signal };
    bus.ref();
    try {
      if (this.active) this.functionStopped();
      await stopFunction(bus, name, limit);
      prepare(bus, name);
      chooseLimits(bus, this.caps.version, this.options.limits);
      bus.writeRegister(Reg.CXT_L2, BigInt(this.contextTables.level2.iova));
      const [context0, ...others] = [...this.byNumber.values()].sort((a, b) => a.number - b.number);
      context0.storeState(ContextState.RUN);
      this.log.initialize();
      if (this.rkeys) programRkeys(bus, this.rkeys);
      await activate(bus, name, limit);
      this.active = true;
      this.failure = undefined;
      this.suspension.ended();
      await context0.reactivate();
      for (const context of others) await context.reactivate();
    } catch (error) {
      // Work that was submitted in the hope of this would wait for ever.
      if (this.failure) for (const context of this.byNumber.values()) context.tracker.abort(this.failure);
      throw error;
    } finally {
      bus.unref();
    }
  }

  /** @internal Somebody has waited in vain: is the function still at work? */
  functionSilent(): void {
    if (this.running && !this.closing && this.state() !== State.ACTIVE) this.functionStopped();
  }

  /** @internal Why no work can be taken now. */
  get failed(): Error | undefined {
    return this.recovering ? undefined : this.failure;
  }

  /** @internal A context was stopped by the function, or the function is found to have failed: nothing in flight will complete. */
  functionStopped(): void {
    if (!this.active) return;
    const state = this.state();
    this.active = false;
    this.failure = functionError(
      this.name,
      state,
      state === State.ERROR ? 'the function has failed' : 'the function was stopped or reset from outside',
    );
    for (const context of this.byNumber.values()) context.tracker.abort(this.failure);
    for (const listener of this.faultListeners) listener(this.failure);
  }

  /** Stops the function, then frees everything and closes the bus. Work in flight rejects with ClosedError. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async shutDown(): Promise<void> {
    const { bus, name } = this;
    let quiet = true;
    bus.ref();
    try {
      // Else the function might be brought back behind our back.
      await this.recovering?.catch(() => {});
      for (const context of this.byNumber.values()) context.tracker.paused = true;
      await stopFunction(bus, name, { timeoutMs: this.options.adminTimeoutMs });
      bus.writeRegister(Reg.ERR_CFG, 0n);
    } catch (error) {
      quiet = error instanceof BusLostError || error instanceof ClosedError;
    } finally {
      bus.unref();
    }
    this.active = false;
    this.watch.end();
    for (const context of this.byNumber.values()) context.discard(new ClosedError(name));
    this.rkeys?.close();
    this.deadlines.clear();
    // Of a function that would not stop, closing the bus is the end; memory is unmapped after that.
    if (!quiet) await bus.close();
    this.dma.close();
    await bus.close();
    names.delete(name);
    opened.delete(this);
  }

  /** @internal */
  forget(context: Context): void {
    this.byNumber.delete(context.number);
    if (context.shape.vector !== undefined) this.vectorsInUse.delete(context.shape.vector);
    if (context.shape.pasid !== undefined) this.dma.unbindPasid(context.shape.pasid);
  }

  private lost(error: Error): void {
    this.active = false;
    this.failure = error;
    for (const context of this.byNumber.values()) context.tracker.lose(error);
    for (const listener of this.faultListeners) listener(error);
  }

  /** Records about a context go to it; those about the target of an administrative descriptor to context 0, which waits for them. */
  private dispatch(record: ErrorRecord): void {
    if (record.reaction === 2) return;
    const context = record.reaction === 0 ? 0 : record.context;
    if (context !== undefined) this.byNumber.get(context)?.takeNote(record);
  }

  private assertAwake(): void {
    if (this.suspension.phase !== Phase.AWAKE) this.suspension.refuse();
  }

  private assertOpen(): void {
    if (this.closing) throw new ClosedError(this.name);
  }

  private assertUsable(): void {
    this.assertOpen();
    if (this.failure) throw this.failure;
  }
}
