import { SdxiError } from '../../errors.js';
import type { VfioDevice } from './device.js';
import { errnoName } from './errno.js';
import type { Host } from './host.js';
import type { RegionInfo } from './uapi.js';
import type { Mmio } from './uri.js';

/** Views are cut at this size: V8 indexes up to 2 GiB at full speed, and BAR 2 may have 32 GiB. */
const VIEW_BYTES = 2 ** 30;

/** A part of a BAR that is mapped. */
class Area {
  readonly start: number;
  readonly byteLength: number;
  private readonly host: Host;
  private readonly address: number;
  /** Made when they are first used. */
  private readonly views: (BigUint64Array | undefined)[] = [];

  constructor(host: Host, start: number, byteLength: number, address: number) {
    this.host = host;
    this.start = start;
    this.byteLength = byteLength;
    this.address = address;
  }

  /** Takes 8 bytes at an offset of the BAR that is in it, a multiple of 8. */
  load(offset: number): bigint {
    const at = offset - this.start;
    return Atomics.load(this.viewOf(at), (at % VIEW_BYTES) / 8);
  }

  store(offset: number, value: bigint): void {
    const at = offset - this.start;
    this.viewOf(at)[(at % VIEW_BYTES) / 8] = value;
  }

  unmap(): void {
    this.host.unmap(this.address, this.byteLength);
  }

  private viewOf(at: number): BigUint64Array {
    const part = Math.floor(at / VIEW_BYTES);
    const view = this.views[part];
    if (view !== undefined) return view;
    const from = part * VIEW_BYTES;
    const made = new BigUint64Array(this.host.view(this.address + from, Math.min(this.byteLength - from, VIEW_BYTES)));
    this.views[part] = made;
    return made;
  }
}

/**
 * One BAR. Mapped, an access is a single load or store of 8 bytes: `Atomics.load` is an ordinary one on x86-64 (and a load-acquire on
 * arm64), which no compiler leaves out or splits. A store is an ordinary one: `Atomics.store` would be an exchange on x86-64, which reads
 * the register as well and locks the bus. V8 stores a BigInt into a BigUint64Array with one instruction in all its tiers on 64-bit machines;
 * test/bus/vfio/mmio.test.ts looks for torn values.
 * What cannot be mapped is read and written by system calls, in which the kernel may split 8 bytes into two accesses of 4 (Linux before
 * 6.15 on x86-64 does).
 */
export class Bar {
  readonly byteLength: number;
  private readonly host: Host;
  private readonly device: VfioDevice;
  private readonly position: number;
  private readonly areas: Area[] = [];
  private readonly why: string;

  /** @throws SdxiError ERR_SDXI_UNSUPPORTED when `map` is asked for and not all of it can be mapped */
  constructor(host: Host, device: VfioDevice, name: string, region: RegionInfo, mmio: Mmio) {
    this.host = host;
    this.device = device;
    this.position = region.offset;
    this.byteLength = region.size;
    this.why = mmio === 'call' ? 'asked for' : this.mapAreas(region);
    if (mmio === 'map' && this.mappedBytes < region.size) {
      const { how } = this;
      this.close();
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', `${name} cannot be mapped as a whole (${how})`, {
        hint: 'leave mmio=map out: system calls then take the place of mappings where there is none',
      });
    }
  }

  /** @returns why not all of it is mapped; '' when all is */
  private mapAreas({ areas, size, offset }: RegionInfo): string {
    for (const area of areas) {
      const address = this.device.map(offset + area.offset, area.size);
      if (address < 0) return `mmap: ${errnoName(address)}`;
      this.areas.push(new Area(this.host, area.offset, area.size, address));
    }
    return this.mappedBytes === size ? '' : areas.length === 0 ? 'the kernel offers no mapping' : 'the kernel offers a part';
  }

  private get mappedBytes(): number {
    return this.areas.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** For people: how it is reached, and why so. */
  get how(): string {
    const { mappedBytes, byteLength, why } = this;
    if (mappedBytes === byteLength) return 'mapped';
    return mappedBytes === 0 ? `system calls (${why})` : `mapped in part, else system calls (${why})`;
  }

  /** 8 bytes at an offset that was checked. */
  read(offset: number): bigint {
    const area = this.areaOf(offset);
    return area ? area.load(offset) : this.device.read64(this.position + offset);
  }

  /** 8 bytes at an offset that was checked; posted where it is mapped. */
  write(offset: number, value: bigint): void {
    const area = this.areaOf(offset);
    if (area) area.store(offset, value);
    else this.device.write64(this.position + offset, value);
  }

  /** None when the 8 bytes are not mapped, or lie so that one instruction might make two accesses (S-100). */
  private areaOf(offset: number): Area | undefined {
    if (offset % 8 !== 0) return undefined;
    for (const area of this.areas) if (offset >= area.start && offset < area.start + area.byteLength) return area;
    return undefined;
  }

  /** Nothing may be read or written from here on. */
  close(): void {
    for (const area of this.areas.splice(0)) area.unmap();
  }
}
