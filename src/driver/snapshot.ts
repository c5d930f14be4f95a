import { createHash } from 'node:crypto';
import { snapshotting } from '../bus/snapshot.js';
import { ArgumentError, SdxiError } from '../errors.js';
import type { Region } from '../memory/region.js';
import type { FunctionSnapshot } from '../spec/snapshot.js';
import type { Limits } from './activate.js';
import type { SavedContext } from './context.js';
import type { SavedMemory } from './dma.js';
import type { SdxiDriver } from './driver.js';
import type { SavedTables } from './tables.js';

/**
 * A suspended driver and its function, besides the bytes of DMA memory: plain data, to be kept as JSON. Memory travels beside it, one
 * region for each entry of {@link memory}.
 */
export interface DriverSnapshot {
  format: 'sdxi-driver';
  version: typeof DRIVER_SNAPSHOT_VERSION;
  driver: {
    readonly name: string;
    readonly uri: string;
    readonly limits: Limits;
    readonly tables: SavedTables;
    /** DMA address of the error log. */
    readonly errorLog: number;
    /** DMA address of the RKey table, if there is one. */
    readonly rkeys: number | null;
  };
  function: FunctionSnapshot;
  /** What the function may reach; the oldest first. */
  memory: readonly SavedMemory[];
  contexts: readonly SavedContext[];
  /** SHA-256 of each part, in hexadecimal. */
  checksums: Record<Part, string>;
}

export const DRIVER_SNAPSHOT_VERSION = 1;

const PARTS = ['driver', 'function', 'memory', 'contexts'] as const;
type Part = (typeof PARTS)[number];

function refuse(what: string, hint: string, fields: Record<string, unknown> = {}, cause?: unknown): never {
  throw new SdxiError('ERR_SDXI_STATE', what, { hint, fields, cause });
}

/** The same text for the same data, whatever became of the order of keys on the way. */
function canonical(value: unknown): string {
  const ordered = (_key: string, inner: unknown): unknown =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner;
  return JSON.stringify(value, ordered);
}

const checksum = (part: unknown): string => createHash('sha256').update(canonical(part)).digest('hex');

/** @throws SdxiError ERR_SDXI_STATE unless the function is stopped */
export function saveDriver(
  driver: SdxiDriver,
  { limits, errorLog, rkeys }: { limits: Limits; errorLog: number; rkeys: number | undefined },
): DriverSnapshot {
  const { bus, name, dma, contexts, tables } = driver;
  const parts: Record<Part, unknown> = {
    driver: { name, uri: bus.uri, limits, tables: tables.save(), errorLog, rkeys: rkeys ?? null },
    function: snapshotting(bus).snapshot(),
    memory: dma.describe(),
    contexts: [...contexts.values()].map((context) => context.save()),
  };
  // As JSON has it, so that a snapshot is the same before and after its journey.
  const plain = JSON.parse(JSON.stringify(parts)) as Record<Part, unknown>;
  const checksums = Object.fromEntries(PARTS.map((part) => [part, checksum(plain[part])]));
  return { format: 'sdxi-driver', version: DRIVER_SNAPSHOT_VERSION, ...plain, checksums } as DriverSnapshot;
}

/**
 * What `suspend()` returned, or its JSON, checked.
 * @throws SdxiError ERR_SDXI_STATE that names the place for one that was changed or cut short, and both versions for one of another
 */
export function readSnapshot(given: DriverSnapshot | string): DriverSnapshot {
  let snapshot = given as DriverSnapshot;
  if (typeof given === 'string') {
    try {
      snapshot = JSON.parse(given);
    } catch (cause) {
      refuse(
        `the snapshot is no JSON: ${(cause as Error).message}`,
        'it was changed or cut short on its way; transfer it again',
        {},
        cause,
      );
    }
  }
  const { format, version, checksums } = snapshot ?? {};
  if (format !== 'sdxi-driver') refuse('this is no snapshot of a driver', 'give what driver.suspend() returned, or its JSON', { format });
  if (version !== DRIVER_SNAPSHOT_VERSION) {
    const known = DRIVER_SNAPSHOT_VERSION;
    refuse(`the snapshot has version ${String(version)}, and this sdxi reads version ${known}`, 'resume it with the sdxi that saved it', {
      version,
      known,
    });
  }
  for (const part of PARTS) {
    const content: unknown = snapshot[part];
    if (typeof content !== 'object' || content === null) refuse(`the snapshot has no "${part}"`, 'it was changed or cut short', { part });
    if (checksums?.[part] !== checksum(content)) {
      refuse(`the snapshot was changed: "${part}" does not fit its checksum`, 'transfer it again; a snapshot is not for editing', { part });
    }
  }
  return snapshot;
}

/** Memory for a snapshot: a list in the order of `snapshot.memory`, or who finds it for each entry. */
export type SnapshotMemory = readonly Region[] | ((memory: SavedMemory, index: number) => Region);

/** The regions, one for each entry. @throws ArgumentError when one is missing or has another length */
export function regionsFor(memory: readonly SavedMemory[], given: SnapshotMemory): Region[] {
  if (typeof given !== 'function' && !Array.isArray(given)) {
    throw new ArgumentError('a snapshot needs its memory', {
      hint: 'pass { memory: [region, …] } or { memory: (entry) => region }, e.g. openRegion(fd, { offset: entry.fileOffset, … })',
    });
  }
  return memory.map((entry, index) => {
    const region = typeof given === 'function' ? given(entry, index) : given[index];
    if (region?.byteLength === entry.byteLength) return region;
    const found = typeof region?.byteLength === 'number' ? `has ${region.byteLength} bytes` : 'is missing';
    throw new ArgumentError(`memory ${index} of the snapshot ${found}`, {
      hint: `it takes ${memory.length} regions, this one of ${entry.byteLength} bytes`,
      fields: { index, byteLength: entry.byteLength },
    });
  });
}
