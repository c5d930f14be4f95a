import { setImmediate as nextTurn, setTimeout as pauseFor } from 'node:timers/promises';
import { AbortError, SdxiError, TimeoutError } from '../../errors.js';
import { createEventfd, drainEventfd } from '../../native/eventfd.js';
import { closeFd } from '../../native/libc.js';
import type { WaitOptions } from '../bus.js';
import type { VfioDevice } from './device.js';
import { failed } from './errno.js';
import { PciIrq } from './uapi.js';
import type { VfioSettings } from './uri.js';

/** MSI-X vectors of one function, each an event counter of the kernel. */
export class Interrupts {
  readonly vectors: number;
  private readonly device: VfioDevice;
  private readonly fds: number[];
  private readonly counts: number[];
  private readonly masked = new Set<number>();
  private readonly waiting = new Set<number>();

  static async open(device: VfioDevice, { vectors: wanted, address }: VfioSettings, _lost: (why: string) => never): Promise<Interrupts> {
    const there = device.interrupts(PciIrq.MSIX);
    if (there < 2) {
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', `${address} has ${there} vectors of MSI-X, and SDXI needs two`, { hint: 'see lspci -v' });
    }
    const fds: number[] = [];
    let count = Math.min(there, wanted ?? there);
    for (let i = 0; i < count; i++) fds.push(createEventfd());
    const result = device.signal(PciIrq.MSIX, fds);
    if (result > 0) {
      count = result;
      for (const fd of fds.splice(count)) closeFd(fd);
      const again = device.signal(PciIrq.MSIX, fds);
      if (again !== 0) throw failed('VFIO_DEVICE_SET_IRQS', again, 'see dmesg');
    } else if (result < 0) throw failed('VFIO_DEVICE_SET_IRQS', result, 'see dmesg');
    return new Interrupts(device, fds);
  }

  private constructor(device: VfioDevice, fds: number[]) {
    this.device = device;
    this.fds = fds;
    this.vectors = fds.length;
    this.counts = fds.map(() => 0);
  }

  private take(vector: number): void {
    const n = drainEventfd(this.fds[vector] as number);
    if (n === 0) return;
    if (this.masked.has(vector)) this.waiting.add(vector);
    else this.counts[vector] = ((this.counts[vector] as number) + n) >>> 0;
  }

  count(vector: number): number {
    this.take(vector);
    return this.counts[vector] as number;
  }

  mask(vector: number): void {
    this.take(vector);
    this.masked.add(vector);
  }

  unmask(vector: number): void {
    this.take(vector);
    if (this.masked.delete(vector) && this.waiting.delete(vector)) this.counts[vector] = ((this.counts[vector] as number) + 1) >>> 0;
  }

  pending(vector: number): boolean {
    this.take(vector);
    return this.waiting.has(vector);
  }

  reset(): void {
    for (let v = 0; v < this.vectors; v++) this.take(v);
    this.masked.clear();
    this.waiting.clear();
  }

  async wait(condition: () => boolean, { what, timeoutMs, signal }: WaitOptions, check: () => void): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    const start = performance.now();
    for (;;) {
      check();
      if (signal?.aborted) throw new AbortError(what, { cause: signal.reason });
      if (condition()) return;
      const now = performance.now();
      if (now >= deadline) throw new TimeoutError(what, timeoutMs);
      if (now < start + 0.2) await nextTurn();
      else await pauseFor(1);
    }
  }

  ref(): void {}
  unref(): void {}
  wake(): void {}

  async close(): Promise<void> {
    this.device.silence(PciIrq.MSIX);
    for (const fd of this.fds.splice(0)) closeFd(fd);
  }
}
