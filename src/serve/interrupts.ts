import { isEventfd, signalEventfd } from '../native/eventfd.js';
import { closeFd, setNonBlocking } from '../native/libc.js';
import { Errno, Poll, Poller } from '../native/socket.js';
import type { PciFunction } from '../pci/index.js';
import { Irq, IrqInfoFlag, IrqSetFlag } from '../vfio-user/messages.js';
import { Refusal } from './files.js';

const DATA = IrqSetFlag.NONE | IrqSetFlag.BOOL | IrqSetFlag.EVENTFD;
const ACTION = IrqSetFlag.MASK | IrqSetFlag.UNMASK | IrqSetFlag.TRIGGER;

/** A DEVICE_SET_IRQS, with its descriptors. */
export interface SetIrqs {
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** Bytes of a BOOL. */
  readonly data: Uint8Array;
  readonly fds: readonly number[];
}

const lone = (bits: number): boolean => bits !== 0 && (bits & (bits - 1)) === 0;

/**
 * Where the interrupts of a device go: an eventfd of the client's for each vector. Those are the client's and outlive a reset of the
 * device (S-122); they end with the client.
 */
export class ClientInterrupts {
  private readonly pci: PciFunction;
  private readonly receivers: (number | undefined)[];
  /** Receivers of ERR and REQ, which are never signalled: a software function is not taken away from its client. */
  private readonly idle = new Map<number, number>();
  private enabled = false;
  private readonly poller = new Poller(1);
  /** Signals that the kernel did not take. */
  lost = 0;

  constructor(pci: PciFunction, vectors: number) {
    this.pci = pci;
    this.receivers = new Array<number | undefined>(vectors).fill(undefined);
  }

  /** How many interrupts of a type there are, and what they can do; undefined when there is no such type. */
  info(index: number): { flags: number; count: number } | undefined {
    if (index === Irq.MSIX) return { flags: IrqInfoFlag.EVENTFD | IrqInfoFlag.MASKABLE, count: this.receivers.length };
    if (index === Irq.ERR || index === Irq.REQ) return { flags: IrqInfoFlag.EVENTFD, count: 1 };
    return index === Irq.INTX || index === Irq.MSI ? { flags: 0, count: 0 } : undefined;
  }

  /** @returns whether somebody receives the vector */
  deliver(vector: number): boolean {
    const fd = this.receivers[vector];
    if (fd === undefined) return false;
    // A full counter is no loss: whoever waits on it has been told.
    // Whoever owns it can make it wait again at any time, and fill it up: it is asked each time.
    this.poller.change(0, fd, Poll.OUT);
    if (this.poller.wait(0) === 0) return true;
    const error = signalEventfd(fd);
    if (error < 0 && error !== -Errno.EAGAIN) this.lost++;
    return true;
  }

  /** Carries out a SET_IRQS, all of it or nothing. The descriptors of a request that succeeds are this object's; others stay the caller's. */
  set(request: SetIrqs): Refusal | undefined {
    const { flags, index, start, count, data, fds } = request;
    const bad = (why: string) => new Refusal(Errno.EINVAL, why);
    const info = this.info(index);
    if (info === undefined) return bad(`there is no interrupt type ${index}`);
    if ((flags & ~(DATA | ACTION)) !== 0 || !lone(flags & DATA) || !lone(flags & ACTION)) return bad(`flags 0x${flags.toString(16)}`);
    if ((flags & IrqSetFlag.EVENTFD) === 0 && fds.length > 0) return bad('descriptors without the flag for them');
    const disable = count === 0 && start === 0 && (flags & IrqSetFlag.NONE) !== 0 && (flags & IrqSetFlag.TRIGGER) !== 0;
    if (disable) {
      this.disable(index);
      return undefined;
    }
    if (count === 0 || start + count > info.count) return bad(`vectors ${start} … ${start + count - 1} of ${info.count}`);
    if ((flags & IrqSetFlag.BOOL) !== 0 && data.length < count) return bad(`${data.length} bytes of data for ${count} vectors`);
    if ((flags & IrqSetFlag.EVENTFD) !== 0) return this.assign(request);
    if (index !== Irq.MSIX) return undefined; // nothing raises ERR and REQ, so there is nothing to mask
    for (let i = 0; i < count; i++) if ((flags & IrqSetFlag.NONE) !== 0 || data[i] !== 0) this.act(flags & ACTION, start + i);
    return undefined;
  }

  private act(action: number, vector: number): void {
    if (action === IrqSetFlag.MASK) this.pci.maskVector(vector);
    else if (action === IrqSetFlag.UNMASK) this.pci.unmaskVector(vector);
    else this.deliver(vector);
  }

  private assign({ flags, index, start, count, fds }: SetIrqs): Refusal | undefined {
    if ((flags & IrqSetFlag.TRIGGER) === 0) return new Refusal(Errno.EINVAL, 'events for masking are not there');
    if (fds.length !== 0 && fds.length !== count) return new Refusal(Errno.EINVAL, `${fds.length} descriptors for ${count} vectors`);
    const wrong = fds.find((fd) => !isEventfd(fd));
    if (wrong !== undefined) return new Refusal(Errno.EINVAL, 'a descriptor is no eventfd');
    // A counter that somebody filled up must not stop this thread.
    for (const fd of fds) setNonBlocking(fd);
    if (index === Irq.MSIX && !this.enabled) {
      this.enabled = true;
      this.pci.enableMsix(true);
    }
    for (let i = 0; i < count; i++) this.receive(index, start + i, fds[i]);
    return undefined;
  }

  private receive(index: number, vector: number, fd: number | undefined): void {
    if (index !== Irq.MSIX) {
      const old = this.idle.get(index);
      if (old !== undefined) closeFd(old);
      if (fd === undefined) this.idle.delete(index);
      else this.idle.set(index, fd);
      return;
    }
    const old = this.receivers[vector];
    this.receivers[vector] = fd;
    // Before the old one is closed: nothing is delivered to a number that may be another file already.
    this.pci.setReceiver(vector, fd !== undefined);
    if (old !== undefined) closeFd(old);
  }

  private disable(index: number): void {
    if (index !== Irq.MSIX) {
      this.receive(index, 0, undefined);
      return;
    }
    for (let vector = 0; vector < this.receivers.length; vector++) {
      if (this.receivers[vector] !== undefined) this.receive(index, vector, undefined);
    }
    this.enabled = false;
    this.pci.enableMsix(false);
  }

  /** The client is gone. */
  clear(): void {
    for (const index of [Irq.MSIX, Irq.ERR, Irq.REQ]) this.disable(index);
    this.pci.releaseInterrupts();
  }
}
