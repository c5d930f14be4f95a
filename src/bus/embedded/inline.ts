import { setImmediate as nextTurn, setTimeout as pauseFor } from 'node:timers/promises';
import { AbortError, ClosedError, TimeoutError } from '../../errors.js';
import type { FaultPlan } from '../../fault/index.js';
import { SdxiFunction } from '../../function/function.js';
import { NO_PASID } from '../../memory/address-space.js';
import type { Region } from '../../memory/region.js';
import { BAR0_BYTES, bar2Bytes, doorbellStride } from '../../spec/limits.js';
import type { FunctionSnapshot } from '../../spec/snapshot.js';
import type { Bus, MapRequest, WaitOptions } from '../bus.js';
import { checkDoorbellValue, checkOffset, checkRange, checkRegisterValue, checkSpin, checkVector, checkWait } from '../checks.js';
import type { Snapshotting } from '../snapshot.js';
import { EngineMemory, mapNumbers } from './engine-memory.js';
import { inlineFabric, releaseInlineFabric } from './fabric/hub.js';
import { MappingLedger } from './ledger.js';
import { type EmbeddedOptions, embeddedSettings, faultsWhileOpen } from './options.js';
import { POLL_MS, TIMER_MS } from './sleep.js';

/** Turns between two looks at a condition. */
const TURNS_PER_LOOK = 16;
/** A wait that has work to do lets the event loop turn at this pace. */
const BUSY_MS = 5;

interface Vector {
  count: number;
  masked: boolean;
  pending: boolean;
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
  private readonly memory = new EngineMemory();
  private readonly held = new MappingLedger<Region>();
  private readonly interrupts: Vector[];
  private readonly stride: number;
  private readonly maxContext: number;
  private readonly fabric?: string;
  private readonly faults: FaultPlan;
  private closed = false;

  /** @throws SdxiError ERR_SDXI_URI, ArgumentError for options */
  constructor(uri = 'embedded:?inline=1', options: EmbeddedOptions = {}) {
    const { config, vectors, fabric, faults, tracer } = embeddedSettings(uri, options);
    this.uri = uri;
    this.vectors = vectors;
    this.interrupts = Array.from({ length: vectors }, () => ({ count: 0, masked: false, pending: false }));
    this.stride = doorbellStride(config.dbStride);
    this.maxContext = config.maxContext;
    this.doorbellBytes = bar2Bytes(config.maxContext, config.dbStride);
    const raise = (vector: number) => this.raise(vector);
    const ports = { memory: this.memory.spaces, interrupts: { vectors, raise }, tracer };
    this.fabric = fabric;
    this.faults = faults;
    try {
      this.fn = new SdxiFunction(config, { ...ports, fabric: fabric === undefined ? undefined : inlineFabric(fabric) });
    } catch (error) {
      if (fabric !== undefined) releaseInlineFabric(fabric);
      throw error;
    }
    if (faults.active) this.fn.setFaults(faults);
  }

  /** @see EmbeddedBus.setFaults */
  setFaults(text: string): void {
    this.check();
    const plan = faultsWhileOpen(text, this.faults);
    this.fn.setFaults(plan.active ? plan : undefined);
  }

  /** Runs at most `budget` turns. @returns turns run; 0 = nothing to do until a doorbell or register write */
  step(budget = 64): number {
    this.check();
    return this.fn.step(budget);
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
    return this.vector(vector).count;
  }

  maskInterrupt(vector: number): void {
    this.vector(vector).masked = true;
  }

  unmaskInterrupt(vector: number): void {
    const entry = this.vector(vector);
    if (!entry.masked) return;
    entry.masked = false;
    if (!entry.pending) return;
    entry.pending = false;
    this.raise(vector);
  }

  interruptPending(vector: number): boolean {
    return this.vector(vector).pending;
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
    for (const entry of this.interrupts) {
      entry.masked = false;
      entry.pending = false;
    }
  }

  /** @see Snapshotting.snapshot */
  snapshot(): FunctionSnapshot {
    this.check();
    return this.fn.snapshot();
  }

  /** @see Snapshotting.restore */
  restore(snapshot: FunctionSnapshot): void {
    this.check();
    this.fn.restore(snapshot);
  }

  /** What the function has done so far. */
  counters(): Record<string, number> {
    return { ...this.fn.counters };
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.fn.disconnect();
    if (this.fabric !== undefined) releaseInlineFabric(this.fabric);
    this.held.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Steps until the condition holds, the function is idle or time is up. @returns whether anything ran */
  private run(condition: () => boolean, until: number): boolean {
    let worked = false;
    while (!this.closed && this.fn.step(TURNS_PER_LOOK) > 0) {
      worked = true;
      if (condition() || performance.now() >= until) break;
    }
    return worked;
  }

  private raise(vector: number): void {
    const entry = this.interrupts[vector];
    if (entry.masked) entry.pending = true;
    else entry.count = (entry.count + 1) >>> 0;
  }

  private vector(vector: number): Vector {
    this.check();
    checkVector(vector, this.vectors);
    return this.interrupts[vector];
  }

  private check(): void {
    if (this.closed) throw new ClosedError(this.uri);
  }
}
