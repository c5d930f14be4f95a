import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Bus, MapRequest, WaitOptions } from '../../src/bus/bus.js';
import { AbortError, SdxiError, TimeoutError } from '../../src/errors.js';
import type { Region as Memory } from '../../src/memory/region.js';
import { createEventfd, drainEventfd } from '../../src/native/eventfd.js';
import { closeFd } from '../../src/native/libc.js';
import { Command, IrqSetFlag, MapFlag, MigrationState, Region } from '../../src/vfio-user/messages.js';
import { body, type RawClient } from './raw.js';

interface Granted {
  readonly iova: number;
  readonly byteLength: number;
  readonly access: number;
  readonly region: Memory;
  readonly offset: number;
}

/**
 * A bus over the messages themselves, as simple as can be: everything is a request that is waited for on the calling thread. With
 * `descriptors: false` memory is granted without files, and this end answers the server's DMA_READ and DMA_WRITE.
 */
export class RawBus implements Bus {
  readonly uri: string;
  readonly vectors: number;
  readonly doorbellBytes: number;
  readonly virtualFunctions: readonly Bus[] = [];
  client: RawClient;
  private readonly descriptors: boolean;
  private readonly granted: Granted[] = [];
  private readonly events: number[];
  private readonly counts: number[];
  private readonly held: { masked: boolean; pending: boolean }[];

  constructor(client: RawClient, { descriptors }: { descriptors: boolean }) {
    this.client = client;
    this.descriptors = descriptors;
    this.uri = 'raw:';
    this.vectors = client.request(Command.DEVICE_GET_IRQ_INFO, body({ u32: 16 }, { u32: 0 }, { u32: 2 }, { u32: 0 })).body.readUInt32LE(12);
    this.doorbellBytes = Number(
      client
        .request(Command.DEVICE_GET_REGION_INFO, body({ u32: 32 }, { u32: 0 }, { u32: 2 }, { u32: 0 }, { u64: 0 }, { u64: 0 }))
        .body.readBigUInt64LE(16),
    );
    this.events = Array.from({ length: this.vectors }, () => createEventfd());
    this.counts = this.events.map(() => 0);
    this.held = this.events.map(() => ({ masked: false, pending: false }));
    client.memory = {
      read: (address, count) => this.find(address, count, MapFlag.READ)?.slice(),
      write: (address, bytes) => {
        const target = this.find(address, bytes.length, MapFlag.WRITE);
        target?.set(bytes);
        return target !== undefined;
      },
    };
    this.setUp();
  }

  private setUp(): void {
    this.client.enable();
    this.setUpInterrupts();
  }

  private setUpInterrupts(): void {
    this.events.forEach((fd, vector) => {
      const flags = IrqSetFlag.EVENTFD | IrqSetFlag.TRIGGER;
      this.client.request(Command.DEVICE_SET_IRQS, body({ u32: 20 }, { u32: flags }, { u32: 2 }, { u32: vector }, { u32: 1 }), [fd]);
    });
  }

  private find(address: number, length: number, access: number): Uint8Array | undefined {
    const granted = this.granted.find((g) => address >= g.iova && address + length <= g.iova + g.byteLength && (g.access & access) !== 0);
    if (granted === undefined) return undefined;
    const start = address - granted.iova + granted.offset;
    return granted.region.bytes.subarray(start, start + length);
  }

  readRegister(offset: number): bigint {
    return this.client.register(offset);
  }

  writeRegister(offset: number, value: bigint): void {
    this.client.setRegister(offset, value);
  }

  writeDoorbell(offset: number, value: number): void {
    this.client.write(Region.BAR2, offset, body({ u64: value }), { posted: true });
  }

  map({ iova, region, offset = 0, byteLength = region.byteLength - offset, access, pasid }: MapRequest): void {
    if (pasid !== undefined && pasid >= 0) throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'the protocol has no PASIDs');
    const granted = { iova, byteLength, access, region, offset };
    this.granted.push(granted);
    this.grant(granted);
  }

  private grant({ iova, byteLength, access, region, offset }: Granted): void {
    const { file } = region;
    if (this.descriptors && file === undefined) throw new Error('memory without a file');
    const errno = this.descriptors
      ? this.client.map(iova, byteLength, file?.fd, { flags: access, offset: (file?.offset ?? 0) + offset })
      : this.client.map(iova, byteLength, undefined, { flags: access });
    if (errno !== 0) throw new SdxiError('ERR_SDXI_MAPPING', `errno ${errno}`);
  }

  /**
   * Live migration: the function's state goes to the function of another server, which gets the same memory and the same eventfds, and takes
   * over. Whoever drives this bus notices nothing.
   */
  moveTo(target: RawClient): void {
    const state = this.client.saveState();
    const old = this.client;
    target.memory = old.memory;
    this.client = target;
    old.close();
    for (const granted of this.granted) this.grant(granted);
    target.loadState(state);
    this.setUpInterrupts();
    target.migrateTo(MigrationState.RUNNING);
  }

  unmap(iova: number, byteLength: number): void {
    this.client.unmap(iova, byteLength);
    const at = this.granted.findIndex((g) => g.iova === iova);
    if (at >= 0) this.granted.splice(at, 1);
  }

  private drain(vector: number): void {
    const fired = drainEventfd(this.events[vector]);
    if (fired === 0) return;
    if (this.held[vector].masked) this.held[vector].pending = true;
    else this.counts[vector] += fired;
  }

  interruptCount(vector: number): number {
    this.drain(vector);
    return this.counts[vector];
  }

  maskInterrupt(vector: number): void {
    this.drain(vector);
    this.held[vector].masked = true;
  }

  unmaskInterrupt(vector: number): void {
    this.drain(vector);
    if (this.held[vector].pending) this.counts[vector]++;
    this.held[vector] = { masked: false, pending: false };
  }

  interruptPending(vector: number): boolean {
    this.drain(vector);
    return this.held[vector].pending;
  }

  async wait(condition: () => boolean, { what, timeoutMs, signal }: WaitOptions): Promise<void> {
    for (const deadline = performance.now() + timeoutMs; !condition(); ) {
      if (signal?.aborted) throw new AbortError(what);
      if (performance.now() >= deadline) throw new TimeoutError(what, timeoutMs);
      this.attend(condition, 2);
      await nextTurn();
    }
  }

  spin(condition: () => boolean, timeoutMs: number): boolean {
    this.attend(condition, timeoutMs);
    return condition();
  }

  private attend(condition: () => boolean, forMs: number): void {
    const until = performance.now() + forMs;
    this.client.serve(() => condition() || performance.now() >= until);
  }

  ref(): void {}
  unref(): void {}

  reset(): void {
    this.client.request(Command.DEVICE_RESET);
    for (let vector = 0; vector < this.vectors; vector++) this.drain(vector);
    this.setUp();
  }

  async close(): Promise<void> {
    this.client.close();
    for (const fd of this.events) closeFd(fd);
    this.events.length = 0;
  }
}
