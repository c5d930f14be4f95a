import { SdxiError } from '../../errors.js';
import { createEventfd } from '../../native/eventfd.js';
import { closeFd } from '../../native/libc.js';
import { VECTORS_MAX } from '../../spec/limits.js';
import type { InterruptWords } from '../interrupt-words.js';
import { EventWatch } from '../watch/event-watch.js';
import type { VfioDevice } from './device.js';
import { failed } from './errno.js';
import { PciIrq } from './uapi.js';
import type { VfioSettings } from './uri.js';

/** Events of a device that end it for its user, and what they mean. */
const ENDINGS = [
  { index: PciIrq.REQ, reason: 'the kernel wants it back (unbound, or unplugged)' },
  { index: PciIrq.ERR, reason: 'it reported an uncorrectable error' },
] as const;

/**
 * The interrupts of one function: its MSI-X vectors, each an event counter of the kernel that a thread watches, and the events that end it.
 * Masks are software's: VFIO lets nobody mask a vector of MSI-X.
 */
export class Interrupts {
  readonly vectors: number;
  readonly watch: EventWatch;
  private readonly device: VfioDevice;
  private readonly endings: readonly { readonly index: number; readonly fd: number }[];

  /** @throws SdxiError ERR_SDXI_UNSUPPORTED for a device with fewer than two vectors; SystemError when there are no descriptors left */
  static async open(device: VfioDevice, { uri, address, vectors: wanted }: VfioSettings): Promise<Interrupts> {
    const there = device.interrupts(PciIrq.MSIX);
    if (there < 2) throw tooFew(address, there, 'see lspci -v: the function has to have a working MSI-X capability');
    const endings: { index: number; reason: string; fd: number }[] = [];
    let watch: EventWatch | undefined;
    try {
      for (const ending of ENDINGS) if (device.interrupts(ending.index) > 0) endings.push({ ...ending, fd: createEventfd() });
      const lost = endings.map(({ fd, reason }) => ({ fd, on: 'input', reason }) as const);
      watch = EventWatch.start({ uri, vectors: Math.min(there, wanted ?? VECTORS_MAX, VECTORS_MAX), lost });
      const vectors = connect(device, watch.fds, address);
      for (const { index, fd } of endings) device.signal(index, [fd]);
      return new Interrupts(device, watch, vectors, endings);
    } catch (error) {
      await watch?.close();
      for (const { fd } of endings) closeFd(fd);
      throw error;
    }
  }

  private constructor(device: VfioDevice, watch: EventWatch, vectors: number, endings: readonly { index: number; fd: number }[]) {
    this.device = device;
    this.watch = watch;
    this.vectors = vectors;
    this.endings = endings;
  }

  get words(): InterruptWords {
    return this.watch.words;
  }

  /** Nothing is signalled from here on. The device is still open. */
  async close(): Promise<void> {
    for (const index of [PciIrq.MSIX, ...this.endings.map((ending) => ending.index)]) this.device.silence(index);
    await this.watch.close();
    for (const { fd } of this.endings) closeFd(fd);
  }
}

/** Asks for as many vectors as there are counters; where the kernel has fewer, it says how many, and is asked for these. */
function connect(device: VfioDevice, fds: readonly number[], address: string): number {
  let count = fds.length;
  for (;;) {
    const available = device.signal(PciIrq.MSIX, fds.slice(0, count));
    if (available === 0) return count;
    if (available < 0) throw failed('VFIO_DEVICE_SET_IRQS', available, 'the kernel would not set up MSI-X: see dmesg');
    if (available < 2) throw tooFew(address, available, 'the kernel has no more: close other devices');
    // It answers less each time, or it would never end.
    count = Math.min(available, count - 1);
  }
}

function tooFew(address: string, vectors: number, hint: string): SdxiError {
  return new SdxiError('ERR_SDXI_UNSUPPORTED', `${address} has ${vectors} interrupt vectors, and a function of SDXI needs 2`, {
    hint,
    fields: { function: address, vectors },
  });
}
