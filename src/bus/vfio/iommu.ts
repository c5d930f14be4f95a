/** The IOMMU in front of one function: what addresses it takes, and the two calls that map and unmap. */
import { SdxiError } from '../../errors.js';
import { Access } from '../../memory/address-space.js';
import { PAGE_BYTES } from '../../memory/region.js';
import { EEXIST, EFAULT, EINVAL, EIO, ENODEV, ENOMEM, ENOSPC, errnoName } from './errno.js';
import type { Host } from './host.js';
import { LockedMemory } from './locked-memory.js';
import {
  DMA_MAP_BYTES,
  DMA_UNMAP_BYTES,
  DmaFlag,
  IOMMU_INFO_BYTES,
  type IommuInfo,
  missingBytes,
  readIommuInfo,
  structure,
  Vfio,
} from './uapi.js';

/** A mapping as the IOMMU has it: whole pages around the bytes that were asked for. */
export interface PageRange {
  readonly iova: number;
  readonly byteLength: number;
}

export interface IommuMapping extends PageRange {
  /** Process address of the first page. */
  readonly address: number;
  readonly access: Access;
}

/** The whole pages around `byteLength` bytes at `iova`. */
export function wholePages(iova: number, byteLength: number, pageBytes: number): PageRange {
  const before = iova % pageBytes;
  return { iova: iova - before, byteLength: Math.ceil((before + byteLength) / pageBytes) * pageBytes };
}

export class Iommu {
  readonly info: IommuInfo;
  /** Mappings that were made and not taken back. */
  private mappings = 0;
  private readonly host: Host;
  private readonly container: number;
  private readonly locked: LockedMemory;
  private readonly mapArgument = structure(DMA_MAP_BYTES);
  private readonly unmapArgument = structure(DMA_UNMAP_BYTES);

  /** @throws SdxiError ERR_SDXI_SYSTEM for an answer that cannot be; ERR_SDXI_UNSUPPORTED for pages larger than this package's */
  constructor(host: Host, container: number) {
    this.host = host;
    this.container = container;
    this.locked = new LockedMemory(host);
    this.info = readInfo(host, container);
    if (this.info.pageBytes > PAGE_BYTES) {
      throw new SdxiError('ERR_SDXI_UNSUPPORTED', `the smallest page of the IOMMU has ${this.info.pageBytes} bytes`, {
        hint: `this package aligns memory to ${PAGE_BYTES} bytes: take a kernel with pages of that size`,
        fields: { pageBytes: this.info.pageBytes },
      });
    }
  }

  /** @throws SdxiError ERR_SDXI_MAPPING, ERR_SDXI_RESOURCE */
  map(mapping: IommuMapping): void {
    this.checkAddresses(mapping);
    this.locked.check(mapping.byteLength);
    const { view, bytes } = this.mapArgument;
    view.setUint32(0, DMA_MAP_BYTES, true);
    view.setUint32(4, flags(mapping.access), true);
    view.setBigUint64(8, BigInt(mapping.address), true);
    view.setBigUint64(16, BigInt(mapping.iova), true);
    view.setBigUint64(24, BigInt(mapping.byteLength), true);
    const result = this.host.ioctl(this.container, Vfio.IOMMU_MAP_DMA, bytes);
    if (result < 0) throw this.refused(mapping, result);
    this.mappings++;
  }

  /** Takes exactly what was mapped. Returns when the IOMMU has forgotten it. @throws SdxiError ERR_SDXI_MAPPING when that was not there */
  unmap({ iova, byteLength }: PageRange): void {
    const { view, bytes } = this.unmapArgument;
    view.setUint32(0, DMA_UNMAP_BYTES, true);
    view.setUint32(4, 0, true);
    view.setBigUint64(8, BigInt(iova), true);
    view.setBigUint64(16, BigInt(byteLength), true);
    const result = this.host.ioctl(this.container, Vfio.IOMMU_UNMAP_DMA, bytes);
    const gone = result < 0 ? 0n : view.getBigUint64(16, true);
    if (gone === BigInt(byteLength)) {
      this.mappings--;
      return;
    }
    const why = result < 0 ? errnoName(result) : `${gone} bytes were`;
    throw new SdxiError('ERR_SDXI_MAPPING', `${hex(iova)} … ${hex(iova + byteLength - 1)} was not unmapped: ${why}`, {
      hint: 'the function may still reach this memory: close the bus, which takes all of it away',
      fields: { iova, byteLength, errno: result < 0 ? -result : undefined },
    });
  }

  /** Before the kernel says EINVAL, which could mean anything. */
  private checkAddresses({ iova, byteLength, access }: IommuMapping): void {
    const last = BigInt(iova) + BigInt(byteLength) - 1n;
    const { ranges, mappingsLeft } = this.info;
    if (mappingsLeft !== undefined && this.mappings >= mappingsLeft) throw tooMany({ iova, byteLength });
    if (access !== Access.READ && access !== Access.WRITE && access !== Access.READ_WRITE) {
      throw refuse({ iova, byteLength }, `there is no access ${String(access)}`, 'access is READ, WRITE or READ_WRITE');
    }
    if (!Number.isSafeInteger(iova + byteLength)) throw refuse({ iova, byteLength }, 'it leaves the addresses below 2^53', 'map it lower');
    if (!ranges || ranges.some((range) => range.first <= BigInt(iova) && last <= range.last)) return;
    const list = ranges.map((range) => `${hex(range.first)} … ${hex(range.last)}`).join(', ');
    throw refuse({ iova, byteLength }, 'the IOMMU does not translate these addresses', `it translates ${list}`);
  }

  private refused({ iova, byteLength, address }: IommuMapping, result: number): SdxiError {
    const place = { iova, byteLength };
    switch (-result) {
      case EEXIST:
        return refuse(
          place,
          'a page of it is mapped already',
          'the IOMMU maps whole pages of 4096 bytes: give each mapping pages of its own',
        );
      case ENOMEM: {
        const { limitBytes, lockedBytes } = this.locked.read();
        const state = `${lockedBytes} bytes of this process are locked, the limit is ${limitBytes}`;
        return refuse(place, 'not enough memory, or locked memory', `${state}: raise it (ulimit -l, LimitMEMLOCK=), or map less`);
      }
      case ENOSPC:
        return tooMany(place);
      case EFAULT:
        return refuse(place, `the memory at ${hex(address)} cannot be pinned`, 'only ordinary memory and files in memory can be mapped');
      case EINVAL:
        return refuse(place, 'the IOMMU refuses these addresses (EINVAL)', 'addresses that platforms reserve cannot be mapped: see dmesg');
      default:
        return refuse(place, errnoName(result), [EIO, ENODEV].includes(-result) ? 'the device is gone: see dmesg' : 'see dmesg');
    }
  }
}

function flags(access: Access): number {
  return ((access & Access.READ) !== 0 ? DmaFlag.READ : 0) | ((access & Access.WRITE) !== 0 ? DmaFlag.WRITE : 0);
}

const hex = (value: number | bigint) => `0x${value.toString(16)}`;

function refuse({ iova, byteLength }: PageRange, why: string, hint: string): SdxiError {
  return new SdxiError('ERR_SDXI_MAPPING', `cannot map memory at ${hex(iova)}: ${why}`, { hint, fields: { iova, byteLength } });
}

function tooMany(place: PageRange): SdxiError {
  return refuse(place, 'there are too many mappings', 'map larger pieces, or raise the limit: modprobe vfio_iommu_type1 dma_entry_limit=…');
}

/** Asks once for the size of the answer, and then for the answer. */
function readInfo(host: Host, container: number): IommuInfo {
  let byteLength = IOMMU_INFO_BYTES;
  try {
    for (;;) {
      const { view, bytes } = structure(byteLength);
      view.setUint32(0, byteLength, true);
      const result = host.ioctl(container, Vfio.IOMMU_GET_INFO, bytes);
      if (result < 0) throw new RangeError(errnoName(result));
      const more = missingBytes(view);
      if (more === 0) return readIommuInfo(view);
      byteLength = more;
    }
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new SdxiError('ERR_SDXI_SYSTEM', `VFIO_IOMMU_GET_INFO makes no sense: ${cause.message}`, { hint: 'see dmesg', cause });
  }
}
