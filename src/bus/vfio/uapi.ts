/**
 * What <linux/vfio.h> says of the calls that this bus makes: numbers, and structures as little-endian bytes. Values are those of Linux 6.1
 * on x86-64 and arm64, where `_IO(';', 100 + n)` is 0x3b64 + n; the interface only ever grows, and `argsz` says how much of a structure
 * either side knows.
 */

/** Requests of the container, a group, a device and the IOMMU, in the order of the header. */
export const Vfio = {
  GET_API_VERSION: 0x3b64,
  CHECK_EXTENSION: 0x3b65,
  SET_IOMMU: 0x3b66,
  GROUP_GET_STATUS: 0x3b67,
  GROUP_SET_CONTAINER: 0x3b68,
  GROUP_GET_DEVICE_FD: 0x3b6a,
  DEVICE_GET_INFO: 0x3b6b,
  DEVICE_GET_REGION_INFO: 0x3b6c,
  DEVICE_GET_IRQ_INFO: 0x3b6d,
  DEVICE_SET_IRQS: 0x3b6e,
  DEVICE_RESET: 0x3b6f,
  IOMMU_GET_INFO: 0x3b70,
  IOMMU_MAP_DMA: 0x3b71,
  IOMMU_UNMAP_DMA: 0x3b72,
} as const;

export const API_VERSION = 0;
/** VFIO_TYPE1v2_IOMMU: unmapping never cuts a mapping in two. */
export const TYPE1V2_IOMMU = 3;

export const GroupFlag = { VIABLE: 1, CONTAINER_SET: 2 } as const;
export const DeviceFlag = { RESET: 1, PCI: 2 } as const;
export const RegionFlag = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;
/** Of regions of a PCI device. */
export const PciRegion = { BAR0: 0, BAR2: 2, CONFIG: 7 } as const;
/** Of interrupts of a PCI device; ERR: an uncorrectable error was reported, REQ: the kernel wants the device back. */
export const PciIrq = { MSIX: 2, ERR: 3, REQ: 4 } as const;
/** VFIO_IRQ_SET_DATA_NONE | ACTION_TRIGGER and VFIO_IRQ_SET_DATA_EVENTFD | ACTION_TRIGGER. */
export const IrqSet = { NONE: 0x21, EVENTFDS: 0x24 } as const;
export const DmaFlag = { READ: 1, WRITE: 2 } as const;

const REGION_CAP_SPARSE_MMAP = 1;
const IOMMU_INFO_PGSIZES = 1;
const IOMMU_INFO_CAPS = 2;
const IOMMU_CAP_IOVA_RANGE = 1;
const IOMMU_CAP_DMA_AVAIL = 3;

/** Most bytes of information that anybody takes. */
const INFO_MAX = 0x10000;

/** A structure to hand to the kernel, alone in its buffer: `addressOf` may move small ones, and must not move others with them. */
export function structure(byteLength: number): { bytes: Uint8Array; view: DataView } {
  const buffer = new ArrayBuffer(Math.max(byteLength, 64));
  return { bytes: new Uint8Array(buffer, 0, byteLength), view: new DataView(buffer, 0, byteLength) };
}

/** struct vfio_info_cap_header: { u16 id, u16 version, u32 next }, and what follows it up to the end of the information. */
export interface InfoCapability {
  readonly id: number;
  readonly version: number;
  readonly data: DataView;
}

/**
 * The chain of capabilities behind a structure. Offsets count from its start.
 * @throws RangeError for a chain that leaves the structure, goes into its fixed part, or does not end
 */
export function infoCapabilities(view: DataView, first: number, fixedBytes: number): InfoCapability[] {
  const found: InfoCapability[] = [];
  const seen = new Set<number>();
  for (let at = first; at !== 0; at = view.getUint32(at + 4, true)) {
    if (at < fixedBytes || at + 8 > view.byteLength || seen.has(at))
      throw new RangeError(`capability at ${at} of ${view.byteLength} bytes`);
    seen.add(at);
    found.push({
      id: view.getUint16(at, true),
      version: view.getUint16(at + 2, true),
      data: new DataView(view.buffer, view.byteOffset + at, view.byteLength - at),
    });
  }
  return found;
}

/** Pairs of 64-bit numbers at offset 16 of a capability, as many as the dword at offset 8 says. @throws RangeError when they do not fit */
function pairs(data: DataView): [bigint, bigint][] {
  const count = data.getUint32(8, true);
  if (16 + count * 16 > data.byteLength) throw new RangeError(`${count} ranges in ${data.byteLength} bytes`);
  return Array.from({ length: count }, (_, i) => [data.getBigUint64(16 + i * 16, true), data.getBigUint64(24 + i * 16, true)]);
}

/** How much the kernel has to say, when that is more than was asked for; 0 when all of it is there. @throws RangeError */
export function missingBytes(view: DataView): number {
  const needed = view.getUint32(0, true);
  if (needed > INFO_MAX) throw new RangeError(`${needed} bytes of information`);
  return needed > view.byteLength ? needed : 0;
}

export const GROUP_STATUS_BYTES = 8;
export const DEVICE_INFO_BYTES = 20;
export const REGION_INFO_BYTES = 32;
export const IRQ_INFO_BYTES = 16;
export const IRQ_SET_BYTES = 20;
export const IOMMU_INFO_BYTES = 24;
export const DMA_MAP_BYTES = 32;
export const DMA_UNMAP_BYTES = 24;

/** struct vfio_region_info with its sparse areas. */
export interface RegionInfo {
  readonly flags: number;
  readonly size: number;
  /** Where it lies in the device's file. */
  readonly offset: number;
  /** What of it can be mapped: all of it, unless it says otherwise; nothing without the flag. */
  readonly areas: readonly { readonly offset: number; readonly size: number }[];
}

/** @throws RangeError for information that cannot be */
export function readRegionInfo(view: DataView): RegionInfo {
  const flags = view.getUint32(4, true);
  const size = safe(view.getBigUint64(16, true));
  const offset = safe(view.getBigUint64(24, true));
  if ((flags & RegionFlag.MMAP) === 0) return { flags, size, offset, areas: [] };
  const chain = (flags & RegionFlag.CAPS) === 0 ? 0 : view.getUint32(12, true);
  const sparse = infoCapabilities(view, chain, REGION_INFO_BYTES).find(({ id }) => id === REGION_CAP_SPARSE_MMAP);
  if (!sparse) return { flags, size, offset, areas: [{ offset: 0, size }] };
  const areas = pairs(sparse.data).map(([from, length]) => ({ offset: safe(from), size: safe(length) }));
  for (const area of areas) {
    if (area.offset + area.size > size) throw new RangeError(`an area at ${area.offset} of a region of ${size} bytes`);
  }
  return { flags, size, offset, areas: areas.filter((area) => area.size > 0) };
}

/** What an IOMMU says of itself. */
export interface IommuInfo {
  /** Smallest page in bytes. */
  readonly pageBytes: number;
  /** Addresses that can be mapped, ends included; undefined when the kernel does not say. */
  readonly ranges?: readonly { readonly first: bigint; readonly last: bigint }[];
  /** Mappings that can still be made; undefined when the kernel does not say. */
  readonly mappingsLeft?: number;
}

/** struct vfio_iommu_type1_info. @throws RangeError for information that cannot be */
export function readIommuInfo(view: DataView): IommuInfo {
  const flags = view.getUint32(4, true);
  const sizes = (flags & IOMMU_INFO_PGSIZES) === 0 ? 0n : view.getBigUint64(8, true);
  const pageBytes = sizes === 0n ? 4096 : safe(sizes & -sizes);
  const chain = (flags & IOMMU_INFO_CAPS) === 0 ? 0 : view.getUint32(16, true);
  const capabilities = infoCapabilities(view, chain, IOMMU_INFO_BYTES - 4);
  const ranges = capabilities.find(({ id }) => id === IOMMU_CAP_IOVA_RANGE);
  const available = capabilities.find(({ id }) => id === IOMMU_CAP_DMA_AVAIL);
  return {
    pageBytes,
    ranges: ranges && pairs(ranges.data).map(([first, last]) => ({ first, last })),
    mappingsLeft: available?.data.getUint32(8, true),
  };
}

function safe(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError(`0x${value.toString(16)} bytes`);
  return Number(value);
}
