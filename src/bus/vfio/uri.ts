import { ArgumentError, SdxiError } from '../../errors.js';

/** What the URI of a PCI function says. */
export interface VfioSettings {
  readonly uri: string;
  /** With its domain: `0000:c4:00.1`. */
  readonly address: string;
  /** Interrupt vectors to ask for, 2 … 2048; default all that the function has. */
  readonly vectors?: number;
  /** How registers and doorbells are reached: through a mapping of the BAR (`map`), by system calls (`call`), or whatever can be (`auto`). */
  readonly mmio: Mmio;
  /** The driver's memory comes in pages of 2 MiB. */
  readonly hugepages: boolean;
  /** The driver maps at least so much at once. */
  readonly arenaBytes: number;
}

export type Mmio = 'auto' | 'map' | 'call';

const MMIO: readonly string[] = ['auto', 'map', 'call'];
const MIB = 2 ** 20;
/** Fits into the locked memory that most systems allow everybody (8 MiB). */
const ARENA_BYTES = 4 * MIB;
const NAMES = ['vectors', 'mmio', 'hugepages', 'arenaBytes'];

/** `vfio:[domain:]bus:device.function[?option=value&…]`. @throws SdxiError ERR_SDXI_URI, ArgumentError for options */
export function vfioSettings(uri: string): VfioSettings {
  const match = /^vfio:(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])(?:\?([^#]*))?$/i.exec(uri);
  if (!match) {
    const virtual = uri.includes('#') ? '; a virtual function has a PCI address of its own' : '';
    throw new SdxiError('ERR_SDXI_URI', `"${uri}" is not the URI of a PCI function`, {
      hint: `write vfio:0000:c4:00.1, as lspci -D shows it, or vfio:0000:c4:00.1?option=value&option=value${virtual}`,
      fields: { uri },
    });
  }
  const query = new URLSearchParams(match[3] ?? '');
  for (const name of query.keys()) {
    if (!NAMES.includes(name)) {
      throw new ArgumentError(`a vfio: bus has no option "${name}"`, {
        hint: `options are: ${NAMES.join(', ')}`,
        fields: { option: name },
      });
    }
  }
  const mmio = query.get('mmio') ?? 'auto';
  if (!MMIO.includes(mmio)) wrong('mmio', mmio, MMIO.join(', '));
  const vectors = query.get('vectors');
  const arena = query.get('arenaBytes');
  return {
    uri,
    address: `${match[1] ?? '0000'}:${match[2]}`.toLowerCase(),
    vectors: vectors === null ? undefined : whole('vectors', vectors, 2, 2048),
    mmio: mmio as Mmio,
    hugepages: flag('hugepages', query.get('hugepages')),
    arenaBytes: arena === null ? ARENA_BYTES : whole('arenaBytes', arena, MIB, 1024 * MIB),
  };
}

function whole(option: string, text: string, low: number, high: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= low && value <= high) return value;
  return wrong(option, text, `a whole number from ${low} to ${high}`);
}

function flag(option: string, text: string | null): boolean {
  if (text === null || text === '0' || text === 'false') return false;
  return text === '1' || text === 'true' ? true : wrong(option, text, '1 or 0');
}

function wrong(option: string, value: string, valid: string): never {
  throw new ArgumentError(`bus option ${option} cannot be ${value}`, { hint: `${option} is ${valid}`, fields: { option, value } });
}
