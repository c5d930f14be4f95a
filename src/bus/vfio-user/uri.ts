import { ArgumentError, SdxiError } from '../../errors.js';

/** What the URI of a served function says. */
export interface VfioUserSettings {
  readonly uri: string;
  /** Of the server's socket. */
  readonly path: string;
  /** How long a register access may take before the server counts as dead; default 2000. */
  readonly registerTimeoutMs: number;
  /** How long all of opening may take, most of it without blocking the thread; default 5000. */
  readonly openTimeoutMs: number;
  /** Interrupt vectors to ask for, 2 … 2048; default all that the function has, 256 at most. */
  readonly vectors: number;
  /** Doorbells are written without waiting for an answer; default yes. */
  readonly postedWrites: boolean;
  /** Doorbells are mapped when the server offers it; default yes. */
  readonly mapDoorbells: boolean;
  /** Memory is shared by file descriptors; otherwise every access of the server's is a message. Default yes. */
  readonly shareMemory: boolean;
}

const NAMES = ['registerTimeoutMs', 'openTimeoutMs', 'vectors', 'postedWrites', 'mapDoorbells', 'shareMemory'];
const LONGEST_MS = 2 ** 31 - 1;

/** `vfio-user:PATH[?option=value&…]`. @throws SdxiError ERR_SDXI_URI, ArgumentError for options */
export function vfioUserSettings(uri: string): VfioUserSettings {
  const match = /^vfio-user:([^?#]+)(?:\?([^#]*))?$/.exec(uri);
  if (!match) {
    throw new SdxiError('ERR_SDXI_URI', `"${uri}" is not the URI of a served function`, {
      hint: 'write vfio-user:PATH, the path of the socket that sdxi serve has made, or vfio-user:PATH?option=value&option=value',
      fields: { uri },
    });
  }
  const query = new URLSearchParams(match[2] ?? '');
  for (const name of query.keys()) {
    if (NAMES.includes(name)) continue;
    throw new ArgumentError(`a vfio-user: bus has no option "${name}"`, {
      hint: `options are: ${NAMES.join(', ')}`,
      fields: { option: name },
    });
  }
  return {
    uri,
    path: match[1],
    registerTimeoutMs: whole('registerTimeoutMs', query.get('registerTimeoutMs') ?? '2000', 1, LONGEST_MS),
    openTimeoutMs: whole('openTimeoutMs', query.get('openTimeoutMs') ?? '5000', 1, LONGEST_MS),
    vectors: whole('vectors', query.get('vectors') ?? '256', 2, 2048),
    postedWrites: flag('postedWrites', query.get('postedWrites')),
    mapDoorbells: flag('mapDoorbells', query.get('mapDoorbells')),
    shareMemory: flag('shareMemory', query.get('shareMemory')),
  };
}

function whole(option: string, text: string, low: number, high: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= low && value <= high) return value;
  return wrong(option, text, `a whole number from ${low} to ${high}`);
}

function flag(option: string, text: string | null): boolean {
  if (text === null || text === '1' || text === 'true') return true;
  return text === '0' || text === 'false' ? false : wrong(option, text, '1 or 0');
}

function wrong(option: string, value: string, valid: string): never {
  throw new ArgumentError(`bus option ${option} cannot be ${value}`, { hint: `${option} is ${valid}`, fields: { option, value } });
}
