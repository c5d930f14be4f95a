/**
 * The vfio-user protocol as data: commands, flags and the places of fields, as the protocol document of QEMU 11.1 has them
 * ("vfio-user Protocol Specification"). All values are little-endian.
 */

/** Commands; DMA_READ and DMA_WRITE go from server to client, all others the other way. */
export const Command = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
} as const;
export type Command = (typeof Command)[keyof typeof Command];

export function commandName(command: number): string {
  return Object.entries(Command).find(([, value]) => value === command)?.[0] ?? `command ${command}`;
}

/** Every message begins with: id (2), command (2), size with this header (4), flags (4), errno of a reply (4). */
export const HEADER_BYTES = 16;

/** Flags of the header. */
export const Flag = { TYPE: 0xf, COMMAND: 0, REPLY: 1, NO_REPLY: 0x10, ERROR: 0x20 } as const;

/** Data in one message at most, unless the ends agree on less. */
export const MAX_DATA_XFER = 1 << 20;
/** Longest message: the data, and before it the header and the longest fixed part. */
export const MAX_MESSAGE = MAX_DATA_XFER + 4096;
/** Mappings in force at once, at most. */
export const MAX_DMA_MAPS = 65535;
export const PAGE_SIZES = 4096;
/** Bytes of a dirty bitmap in one message, at most: what fits. */
export const MAX_BITMAP = MAX_DATA_XFER;

export const PROTOCOL_MAJOR = 0;
export const PROTOCOL_MINOR = 0;

/** DMA_MAP.flags. */
export const MapFlag = { READ: 1, WRITE: 2, MMAP: 4, FILE_IO: 8 } as const;
/** argsz (4), flags (4), offset (8), address (8), size (8). */
export const DMA_MAP_BYTES = 32;
/** argsz (4), flags (4), address (8), size (8). */
export const DMA_UNMAP_BYTES = 24;

/** DEVICE_GET_INFO: argsz, flags, num_regions, num_irqs. */
export const DEVICE_INFO_BYTES = 16;
export const DeviceFlag = { RESET: 1, PCI: 2 } as const;

/** DEVICE_GET_REGION_INFO: argsz, flags, index, cap_offset (4 each), size, offset (8 each). */
export const REGION_INFO_BYTES = 32;
export const RegionFlag = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;
/** Regions by index: BARs 0 … 5, then these. */
export const Region = { BAR0: 0, BAR2: 2, BAR4: 4, ROM: 6, CONFIG: 7, VGA: 8 } as const;
export const REGIONS = 9;
export const CAP_SPARSE_MMAP = 1;

/** DEVICE_GET_IRQ_INFO: argsz, flags, index, count. */
export const IRQ_INFO_BYTES = 16;
export const IrqInfoFlag = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;
export const Irq = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;
export const IRQS = 5;
/** DEVICE_SET_IRQS: argsz, flags, index, start, count, then data. */
export const SET_IRQS_BYTES = 20;
export const IrqSetFlag = { NONE: 1, BOOL: 2, EVENTFD: 4, MASK: 8, UNMASK: 0x10, TRIGGER: 0x20 } as const;

/** REGION_READ and REGION_WRITE: offset (8), region (4), count (4), then data. */
export const REGION_ACCESS_BYTES = 16;
/** REGION_WRITE_MULTI: wr_cnt (8), then entries of offset (8), region (4), count (4), data (8). */
export const WRITE_MULTI_ENTRY_BYTES = 24;
export const WRITE_MULTI_MAX = 200;
/** DMA_READ and DMA_WRITE: address (8), count (8), then data. */
export const DMA_ACCESS_BYTES = 16;

/** DEVICE_FEATURE: argsz (4), flags (4), then data. */
export const FEATURE_BYTES = 8;
export const FeatureFlag = { INDEX: 0xffff, GET: 0x1_0000, SET: 0x2_0000, PROBE: 0x4_0000 } as const;
export const Feature = { MIGRATION: 1, MIG_DEVICE_STATE: 2, DMA_LOGGING_START: 6, DMA_LOGGING_STOP: 7, DMA_LOGGING_REPORT: 8 } as const;
/** VFIO_MIGRATION_STOP_COPY. */
export const MIGRATION_STOP_COPY = 1;
export const MigrationState = { ERROR: 0, STOP: 1, RUNNING: 2, STOP_COPY: 3, RESUMING: 4, PRE_COPY: 6 } as const;
export type MigrationState = (typeof MigrationState)[keyof typeof MigrationState];
/** MIG_DATA_READ and MIG_DATA_WRITE: argsz (4), size (4), then data. */
export const MIG_DATA_BYTES = 8;

/** What the two ends tell each other in VERSION. */
export interface Capabilities {
  max_msg_fds?: number;
  max_data_xfer_size?: number;
  max_dma_maps?: number;
  pgsizes?: number;
  write_multiple?: boolean;
  migration?: { pgsize?: number; max_bitmap_size?: number };
}

/**
 * Body of a VERSION message: major (2), minor (2), JSON with its terminating zero.
 */
export function encodeVersion(major: number, minor: number, capabilities: Capabilities): Uint8Array {
  const json = Buffer.from(`${JSON.stringify({ capabilities })}\0`);
  const body = Buffer.alloc(4 + json.length);
  body.writeUInt16LE(major, 0);
  body.writeUInt16LE(minor, 2);
  json.copy(body, 4);
  return body;
}

/** @returns undefined for a body that is no VERSION */
export function decodeVersion(body: Uint8Array): { major: number; minor: number; capabilities: Capabilities } | undefined {
  if (body.length < 4) return undefined;
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  const version = { major: bytes.readUInt16LE(0), minor: bytes.readUInt16LE(2) };
  if (body.length === 4) return { ...version, capabilities: {} };
  const end = bytes.indexOf(0, 4);
  if (end < 0) return undefined;
  try {
    const parsed: unknown = JSON.parse(bytes.toString('utf8', 4, end));
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return undefined;
    const { capabilities = {} } = parsed as { capabilities?: unknown };
    if (typeof capabilities !== 'object' || capabilities === null || Array.isArray(capabilities)) return undefined;
    return { ...version, capabilities: capabilities as Capabilities };
  } catch {
    return undefined;
  }
}

/** A 64-bit field as a JS number; -1 when it is not exact (2^53 and more). */
export function field64(view: DataView, offset: number): number {
  const high = view.getUint32(offset + 4, true);
  return high >= 0x20_0000 ? -1 : high * 2 ** 32 + view.getUint32(offset, true);
}

export function setField64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
}
