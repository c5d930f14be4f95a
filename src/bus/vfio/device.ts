import { SdxiError } from '../../errors.js';
import { EIO, ENODEV, ENXIO, errnoName, failed } from './errno.js';
import type { Host } from './host.js';
import {
  DEVICE_INFO_BYTES,
  DeviceFlag,
  IRQ_INFO_BYTES,
  IRQ_SET_BYTES,
  IrqSet,
  missingBytes,
  PciRegion,
  REGION_INFO_BYTES,
  type RegionInfo,
  readRegionInfo,
  structure,
  Vfio,
} from './uapi.js';

/** Of config space. PCI Local Bus 3.0 §6.2.1, 6.2.2. */
const VENDOR_ID = 0x00;
const COMMAND = 0x04;
const COMMAND_MEMORY = 0x0002;
const COMMAND_MASTER = 0x0004;

/** What a device answers that is not there. */
const NOBODY = 0xffff;

/** One PCI function through its file of VFIO. Whatever finds it gone calls `lost`, which throws. */
export class VfioDevice {
  readonly canReset: boolean;
  readonly config: RegionInfo;
  private readonly host: Host;
  private readonly fd: number;
  private readonly lost: (why: string) => never;
  private readonly word = structure(2);
  private readonly quad = structure(8);

  /** @throws SdxiError ERR_SDXI_UNSUPPORTED when it is no PCI device; ERR_SDXI_SYSTEM */
  constructor(host: Host, fd: number, lost: (why: string) => never) {
    this.host = host;
    this.fd = fd;
    this.lost = lost;
    const { view, bytes } = structure(DEVICE_INFO_BYTES);
    view.setUint32(0, DEVICE_INFO_BYTES, true);
    this.check('VFIO_DEVICE_GET_INFO', host.ioctl(fd, Vfio.DEVICE_GET_INFO, bytes));
    const flags = view.getUint32(4, true);
    if ((flags & DeviceFlag.PCI) === 0) {
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'the device is no PCI device', { hint: 'SDXI functions are' });
    }
    this.canReset = (flags & DeviceFlag.RESET) !== 0;
    this.config = this.region(PciRegion.CONFIG);
  }

  /** @returns the result @throws BusLostError, SystemError */
  private check(call: string, result: number): number {
    if (result >= 0) return result;
    if ([EIO, ENODEV, ENXIO].includes(-result)) this.lost(`${call}: ${errnoName(result)}`);
    throw failed(call, result, 'see dmesg');
  }

  /** A part of a register is none. @throws BusLostError, SystemError */
  private checkWhole(call: string, result: number, { byteLength }: Uint8Array): void {
    if (this.check(call, result) !== byteLength) this.lost(`${call}: ${result} of ${byteLength} bytes`);
  }

  /** @throws SdxiError ERR_SDXI_SYSTEM when there is none, or it makes no sense */
  region(index: number): RegionInfo {
    let byteLength = REGION_INFO_BYTES;
    for (;;) {
      const { view, bytes } = structure(byteLength);
      view.setUint32(0, byteLength, true);
      view.setUint32(8, index, true);
      this.check('VFIO_DEVICE_GET_REGION_INFO', this.host.ioctl(this.fd, Vfio.DEVICE_GET_REGION_INFO, bytes));
      try {
        const more = missingBytes(view);
        if (more === 0) return readRegionInfo(view);
        byteLength = more;
      } catch (cause) {
        if (!(cause instanceof RangeError)) throw cause;
        throw new SdxiError('ERR_SDXI_SYSTEM', `VFIO_DEVICE_GET_REGION_INFO of region ${index} makes no sense: ${cause.message}`, {
          hint: 'see dmesg',
          cause,
        });
      }
    }
  }

  /** Interrupts of one kind; 0 when the device has none. */
  interrupts(index: number): number {
    const { view, bytes } = structure(IRQ_INFO_BYTES);
    view.setUint32(0, IRQ_INFO_BYTES, true);
    view.setUint32(8, index, true);
    // A device that is too old for a kind says EINVAL.
    return this.host.ioctl(this.fd, Vfio.DEVICE_GET_IRQ_INFO, bytes) < 0 ? 0 : view.getUint32(12, true);
  }

  /**
   * From now on interrupt n of a kind adds 1 to the counter `eventfds[n]`.
   * @returns 0; more than 0: only so many vectors are to be had, and nothing was changed; -errno
   */
  signal(index: number, eventfds: readonly number[]): number {
    const { view, bytes } = structure(IRQ_SET_BYTES + eventfds.length * 4);
    for (const [i, value] of [bytes.byteLength, IrqSet.EVENTFDS, index, 0, eventfds.length].entries()) view.setUint32(i * 4, value, true);
    for (const [i, fd] of eventfds.entries()) view.setInt32(IRQ_SET_BYTES + i * 4, fd, true);
    return this.host.ioctl(this.fd, Vfio.DEVICE_SET_IRQS, bytes);
  }

  /** Interrupts of a kind go nowhere from now on. */
  silence(index: number): void {
    const { view, bytes } = structure(IRQ_SET_BYTES);
    for (const [i, value] of [IRQ_SET_BYTES, IrqSet.NONE, index, 0, 0].entries()) view.setUint32(i * 4, value, true);
    this.host.ioctl(this.fd, Vfio.DEVICE_SET_IRQS, bytes);
  }

  /** Registers answer, and the function may reach memory. @throws BusLostError */
  enable(): void {
    const before = this.readConfig(COMMAND);
    if (before === NOBODY) this.lost('its configuration space reads all ones');
    this.word.view.setUint16(0, before | COMMAND_MEMORY | COMMAND_MASTER, true);
    this.checkWhole('write of COMMAND', this.host.write(this.fd, this.word.bytes, this.config.offset + COMMAND), this.word.bytes);
  }

  /** Whether configuration space, which answers even with memory disabled, knows of a device. */
  get present(): boolean {
    return this.host.read(this.fd, this.word.bytes, this.config.offset + VENDOR_ID) === 2 && this.word.view.getUint16(0, true) !== NOBODY;
  }

  private readConfig(offset: number): number {
    this.checkWhole('read of configuration space', this.host.read(this.fd, this.word.bytes, this.config.offset + offset), this.word.bytes);
    return this.word.view.getUint16(0, true);
  }

  /** 8 bytes of a region, by a system call. @throws BusLostError, SystemError */
  read64(position: number): bigint {
    this.checkWhole('read of a register', this.host.read(this.fd, this.quad.bytes, position), this.quad.bytes);
    return this.quad.view.getBigUint64(0, true);
  }

  /** @throws BusLostError, SystemError */
  write64(position: number, value: bigint): void {
    this.quad.view.setBigUint64(0, value, true);
    this.checkWhole('write of a register', this.host.write(this.fd, this.quad.bytes, position), this.quad.bytes);
  }

  /** Maps a part of a region. @returns the address, or -errno */
  map(position: number, byteLength: number): number {
    return this.host.map(this.fd, position, byteLength);
  }

  /** Function-level reset, or what else the kernel knows. Takes 100 ms and more. @throws BusLostError, SdxiError ERR_SDXI_UNSUPPORTED */
  reset(): void {
    if (!this.canReset) {
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'the kernel knows no way to reset this function alone', {
        hint: 'cat …/reset_method in its folder of /sys/bus/pci/devices; bring it back with driver.recover() instead',
      });
    }
    this.check('VFIO_DEVICE_RESET', this.host.ioctl(this.fd, Vfio.DEVICE_RESET, 0));
  }
}
