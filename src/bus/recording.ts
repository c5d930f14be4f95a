import type { Access } from '../memory/address-space.js';
import type { FunctionSnapshot } from '../spec/snapshot.js';
import type { Bus, MapRequest, MemoryAdvice, WaitOptions } from './bus.js';
import { canSnapshot, type Snapshotting } from './snapshot.js';

/** One thing that a driver did to its bus. */
export type BusRecord =
  | { readonly kind: 'readRegister'; readonly offset: number; readonly value: bigint }
  | { readonly kind: 'writeRegister'; readonly offset: number; readonly value: bigint }
  | { readonly kind: 'writeDoorbell'; readonly offset: number; readonly value: number }
  | { readonly kind: 'map'; readonly iova: number; readonly byteLength: number; readonly access: Access; readonly pasid?: number }
  | { readonly kind: 'unmap'; readonly iova: number; readonly byteLength: number; readonly pasid?: number }
  | { readonly kind: 'mask' | 'unmask'; readonly vector: number }
  | { readonly kind: 'wait'; readonly what: string }
  | { readonly kind: 'reset' }
  | { readonly kind: 'snapshot' | 'restore' }
  | { readonly kind: 'close' };

export interface RecordingOptions {
  /** Records kept; the oldest go first. Default 100,000. */
  limit?: number;
  /** Called with each record at the moment of the thing itself, after it succeeded (`wait`, `reset`, `close`: before). */
  onRecord?: (record: BusRecord) => void;
}

/** A bus that writes down what its user does. What fails is not written down. */
export class RecordingBus implements Bus {
  readonly bus: Bus;
  private readonly limit: number;
  private readonly onRecord?: (record: BusRecord) => void;
  private kept: BusRecord[] = [];
  private lost = 0;
  /** Only if the bus can: see {@link canSnapshot}. */
  readonly snapshot?: () => FunctionSnapshot;
  readonly restore?: (snapshot: FunctionSnapshot) => void;

  constructor(bus: Bus, options: RecordingOptions = {}) {
    this.bus = bus;
    this.limit = options.limit ?? 100_000;
    this.onRecord = options.onRecord;
    if (!canSnapshot(bus)) return;
    this.snapshot = () => this.saved(bus);
    this.restore = (snapshot) => {
      bus.restore(snapshot);
      this.record({ kind: 'restore' });
    };
  }

  /** What happened since the start or the last {@link clear}, oldest first. */
  get records(): readonly BusRecord[] {
    return this.kept;
  }

  /** Records that the limit has cost. */
  get dropped(): number {
    return this.lost;
  }

  clear(): void {
    this.kept = [];
    this.lost = 0;
  }

  get uri(): string {
    return this.bus.uri;
  }

  get vectors(): number {
    return this.bus.vectors;
  }

  get doorbellBytes(): number {
    return this.bus.doorbellBytes;
  }

  get details(): Readonly<Record<string, string | number>> | undefined {
    return this.bus.details;
  }

  get memoryAdvice(): MemoryAdvice | undefined {
    return this.bus.memoryAdvice;
  }

  /** Nothing is written down about these. */
  get virtualFunctions(): readonly Bus[] {
    return this.bus.virtualFunctions;
  }

  readRegister(offset: number): bigint {
    const value = this.bus.readRegister(offset);
    this.record({ kind: 'readRegister', offset, value });
    return value;
  }

  writeRegister(offset: number, value: bigint): void {
    this.bus.writeRegister(offset, value);
    this.record({ kind: 'writeRegister', offset, value });
  }

  writeDoorbell(offset: number, value: number): void {
    this.bus.writeDoorbell(offset, value);
    this.record({ kind: 'writeDoorbell', offset, value });
  }

  map(request: MapRequest): void {
    this.bus.map(request);
    const { iova, region, offset = 0, access, pasid } = request;
    this.record({ kind: 'map', iova, byteLength: request.byteLength ?? region.byteLength - offset, access, pasid });
  }

  unmap(iova: number, byteLength: number, pasid?: number): void {
    this.bus.unmap(iova, byteLength, pasid);
    this.record({ kind: 'unmap', iova, byteLength, pasid });
  }

  interruptCount(vector: number): number {
    return this.bus.interruptCount(vector);
  }

  maskInterrupt(vector: number): void {
    this.bus.maskInterrupt(vector);
    this.record({ kind: 'mask', vector });
  }

  unmaskInterrupt(vector: number): void {
    this.bus.unmaskInterrupt(vector);
    this.record({ kind: 'unmask', vector });
  }

  interruptPending(vector: number): boolean {
    return this.bus.interruptPending(vector);
  }

  wait(condition: () => boolean, options: WaitOptions): Promise<void> {
    this.record({ kind: 'wait', what: options.what });
    return this.bus.wait(condition, options);
  }

  spin(condition: () => boolean, timeoutMs: number): boolean {
    return this.bus.spin(condition, timeoutMs);
  }

  ref(): void {
    this.bus.ref();
  }

  unref(): void {
    this.bus.unref();
  }

  reset(): void {
    this.record({ kind: 'reset' });
    this.bus.reset();
  }

  close(): Promise<void> {
    this.record({ kind: 'close' });
    return this.bus.close();
  }

  private saved(bus: Snapshotting): FunctionSnapshot {
    const snapshot = bus.snapshot();
    this.record({ kind: 'snapshot' });
    return snapshot;
  }

  private record(record: BusRecord): void {
    if (this.kept.length >= this.limit) {
      // Half at once: dropping one by one would move the whole list each time.
      const gone = Math.ceil(this.limit / 2);
      this.kept.splice(0, gone);
      this.lost += gone;
    }
    if (this.limit > 0) this.kept.push(record);
    this.onRecord?.(record);
  }
}
