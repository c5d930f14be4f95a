import { setImmediate as nextTurn, setTimeout as pauseFor } from 'node:timers/promises';
import { AbortError, ClosedError, TimeoutError } from '../../errors.js';
import type { FaultPlan } from '../../fault/index.js';
import type { FunctionConfig } from '../../function/config.js';
import { SdxiFunction } from '../../function/function.js';
import type { FunctionPorts } from '../../function/ports.js';
import { NO_PASID } from '../../memory/address-space.js';
import { MappingLedger } from '../../memory/ledger.js';
import type { Region } from '../../memory/region.js';
import { BAR0_BYTES, bar2Bytes, doorbellStride } from '../../spec/limits.js';
import type { FunctionSnapshot } from '../../spec/snapshot.js';
import type { Bus, MapRequest, WaitOptions } from '../bus.js';
import { checkDoorbellValue, checkOffset, checkRange, checkRegisterValue, checkSpin, checkVector, checkWait } from '../checks.js';
import { POLL_MS, TIMER_MS } from '../sleep.js';
import { type Snapshotting, stoppedOnly } from '../snapshot.js';
import { EngineMemory, mapNumbers } from './engine-memory.js';
import { inlineFabric, releaseInlineFabric } from './fabric/hub.js';
import { type EmbeddedOptions, embeddedSettings, faultsWhileOpen, memberUri } from './options.js';
import { Vectors } from './vectors.js';

/** Turns between two looks at a condition. */
const TURNS_PER_LOOK = 16;
/** A wait that has work to do lets the event loop turn at this pace. */
const BUSY_MS = 5;

/** What the physical function's bus has made ready for a virtual one. */
interface Member {
  readonly number: number;
  readonly fn: SdxiFunction;
  readonly memory: EngineMemory;
  readonly interrupts: Vectors;
  readonly physical: InlineBus;
}

/**
 * A function on the caller's own thread. Nothing moves by itself: it runs inside {@link wait} and {@link spin}, and when
 * {@link step} is called. So a test sees every state, in an order that it decides.
 */
export class InlineBus implements Bus, Snapshotting {
  readonly uri: string;
  readonly vectors: number;
  readonly doorbellBytes: number;
  /** The function itself, for tests that look inside. */
  readonly fn: SdxiFunction;
  readonly virtualFunctions: readonly InlineBus[];
  private readonly memory: EngineMemory;
  private readonly held = new MappingLedger<Region>();
  private readonly interrupts: Vectors;
  private readonly physical?: InlineBus;
  /** Nobody else has the physical function: it ends with this one. */
  private alone = false;
  private readonly stride: number;
  private readonly maxContext: number;
  private readonly fabric?: string;
  private readonly faults: FaultPlan;
  private closed = false;

  /** As the constructor, and the bus of a virtual function alone for a URI that names one. @throws as the constructor */
  static open(uri?: string, options: EmbeddedOptions = {}): InlineBus {
    const bus = new InlineBus(uri, options);
    const { vf } = embeddedSettings(uri ?? bus.uri, options);
    if (vf === undefined) return bus;
    const member = bus.virtualFunctions[vf - 1];
    member.alone = true;
    return member;
  }

  /**
   * @param member for virtual functions, which this constructor makes itself
   * @throws SdxiError ERR_SDXI_URI, ArgumentError for options
   */
  constructor(uri = 'embedded:?inline=1', options: EmbeddedOptions = {}, member?: Member) {
    const { config, vectors, fabric, faults, tracer, vf } = embeddedSettings(uri, options);
    this.uri = memberUri(uri, member?.number ?? 0);
    this.vectors = vectors;
    this.stride = doorbellStride(config.dbStride);
    this.maxContext = config.maxContext;
    this.doorbellBytes = bar2Bytes(config.maxContext, config.dbStride);
    this.memory = member?.memory ?? new EngineMemory();
    this.interrupts = member?.interrupts ?? new Vectors(vectors);
    this.physical = member?.physical;
    this.faults = faults;
    this.virtualFunctions = [];
    if (member) {
      this.fn = member.fn;
      return;
    }
    const ends = Array.from({ length: config.vfs }, () => ({ memory: new EngineMemory(), interrupts: new Vectors(vectors) }));
    const ports = (end: { memory: EngineMemory; interrupts: Vectors }, number: number): FunctionPorts => ({
      memory: end.memory.spaces,
      interrupts: end.interrupts,
      tracer: number === (vf ?? 0) ? tracer : undefined,
    });
    const all = {
      ...ports({ memory: this.memory, interrupts: this.interrupts }, 0),
      virtual: (number: number) => ports(ends[number - 1], number),
    };
    this.fn = fabric === undefined ? new SdxiFunction(config, all) : joined(fabric, config, all);
    this.fabric = fabric;
    this.virtualFunctions = this.fn.virtualFunctions.map(
      (fn, i) => new InlineBus(uri, options, { ...ends[i], number: i + 1, fn, physical: this }),
    );
    if (faults.active) [this, ...this.virtualFunctions][vf ?? 0].fn.setFaults(faults);
  }

  /** @see EmbeddedBus.setFaults */
  setFaults(text: string): void {
    this.check();
    const plan = faultsWhileOpen(text, this.faults);
    this.fn.setFaults(plan.active ? plan : undefined);
  }

  /**
   * Runs at most `budget` turns of each function: of the one alone, or of a physical one and all its virtual ones, whichever of them is asked.
   * @returns turns run; 0 = nothing to do until a doorbell or register write
   */
  step(budget = 64): number {
    this.check();
    return this.stepAll(budget);
  }

  private stepAll(budget: number): number {
    const { fn, virtualFunctions } = this.physical ?? this;
    let turns = fn.step(budget);
    for (const member of virtualFunctions) turns += member.fn.step(budget);
    return turns;
  }

  readRegister(offset: number): bigint {
    this.check();
    checkOffset(offset, BAR0_BYTES, 'registers');
    return this.fn.readRegister(offset, 8);
  }

  writeRegister(offset: number, value: bigint): void {
    this.check();
    checkOffset(offset, BAR0_BYTES, 'registers');
    checkRegisterValue(value);
    this.fn.writeRegister(offset, 8, value);
  }

  writeDoorbell(offset: number, value: number): void {
    this.check();
    checkDoorbellValue(value);
    const context = offset / this.stride;
    if (context >>> 0 === context && context <= this.maxContext) {
      this.fn.ringDoorbell(context, value);
    } else {
      checkOffset(offset, this.doorbellBytes, 'doorbells');
      this.fn.writeDoorbell(offset, 8, BigInt(value));
    }
  }

  map(request: MapRequest): void {
    this.check();
    const numbers = mapNumbers(request);
    this.memory.map(numbers);
    this.held.add(numbers.pasid, numbers.iova, numbers.byteLength, request.region);
  }

  unmap(iova: number, byteLength: number, pasid = NO_PASID): void {
    this.check();
    checkRange(iova, byteLength);
    const mappings = this.held.inside(pasid, iova, byteLength);
    this.memory.unmap(iova, byteLength, pasid);
    for (const mapping of mappings) this.held.delete(pasid, mapping.iova);
  }

  interruptCount(vector: number): number {
    this.checkVector(vector);
    return this.interrupts.count(vector);
  }

  maskInterrupt(vector: number): void {
    this.checkVector(vector);
    this.interrupts.mask(vector);
  }

  unmaskInterrupt(vector: number): void {
    this.checkVector(vector);
    this.interrupts.unmask(vector);
  }

  interruptPending(vector: number): boolean {
    this.checkVector(vector);
    return this.interrupts.pending(vector);
  }

  /** @see Bus.wait; the function runs meanwhile, and the event loop turns when there is nothing to do, or every 5 ms */
  async wait(condition: () => boolean, options: WaitOptions): Promise<void> {
    this.check();
    checkWait(condition, options, this.vectors);
    const { what, timeoutMs, signal } = options;
    if (condition()) return;
    const deadline = performance.now() + timeoutMs;
    let workedAt = performance.now();
    for (;;) {
      if (signal?.aborted) throw new AbortError(what, { cause: signal.reason });
      const from = performance.now();
      const worked = this.run(condition, Math.min(from + BUSY_MS, deadline));
      if (condition()) return;
      const now = performance.now();
      if (now >= deadline) throw new TimeoutError(what, timeoutMs);
      if (worked) workedAt = now;
      // An idle function waits for its user, who is somewhere in the event loop.
      if (now - workedAt < POLL_MS) await nextTurn();
      else await pauseFor(Math.min(TIMER_MS, deadline - now));
      if (condition()) return;
      this.check();
    }
  }

  /** @see Bus.spin; the function runs meanwhile */
  spin(condition: () => boolean, timeoutMs: number): boolean {
    this.check();
    checkSpin(condition, timeoutMs);
    const deadline = performance.now() + timeoutMs;
    if (condition()) return true;
    do {
      this.run(condition, deadline);
      if (condition()) return true;
    } while (performance.now() < deadline);
    return false;
  }

  /** Nothing runs behind the user's back, so there is nothing to stay alive for. */
  ref(): void {}

  unref(): void {}

  reset(): void {
    this.check();
    this.fn.reset();
    for (const { interrupts } of [this, ...this.virtualFunctions]) interrupts.reset();
  }

  /** @see Snapshotting.snapshot */
  snapshot(): FunctionSnapshot {
    this.check();
    return this.fn.snapshot();
  }

  /** @see Snapshotting.restore */
  restore(snapshot: FunctionSnapshot): void {
    this.check();
    this.fn.restore(stoppedOnly(snapshot));
  }

  /** What the function has done so far. */
  counters(): Record<string, number> {
    return { ...this.fn.counters };
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    for (const member of this.virtualFunctions) await member.close();
    if (this.physical) this.endVirtual();
    else this.fn.disconnect();
    if (this.fabric !== undefined) releaseInlineFabric(this.fabric);
    this.held.clear();
    if (this.alone) await this.physical?.close();
  }

  /** Others go on: the function is reset, and reaches no memory any more. */
  private endVirtual(): void {
    this.fn.reset();
    for (const { iova, byteLength, pasid } of this.held.all()) this.memory.unmap(iova, byteLength, pasid);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Steps until the condition holds, the function is idle or time is up. @returns whether anything ran */
  private run(condition: () => boolean, until: number): boolean {
    let worked = false;
    while (!this.closed && this.stepAll(TURNS_PER_LOOK) > 0) {
      worked = true;
      if (condition() || performance.now() >= until) break;
    }
    return worked;
  }

  private checkVector(vector: number): void {
    this.check();
    checkVector(vector, this.vectors);
  }

  private check(): void {
    if (this.closed) throw new ClosedError(this.uri);
  }
}

/** A function in a fabric of this thread. */
function joined(name: string, config: FunctionConfig, ports: FunctionPorts): SdxiFunction {
  const fabric = inlineFabric(name);
  try {
    return new SdxiFunction(config, { ...ports, fabric });
  } catch (error) {
    releaseInlineFabric(name);
    throw error;
  }
}
