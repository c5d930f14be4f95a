import type { Bus } from '../bus/bus.js';
import { SdxiError, TimeoutError } from '../errors.js';
import { FunctionRequest, FunctionState } from '../spec/codes.js';
import { akeyEntries, doorbellStride, maxBufferBytes, maxErrorLogBytes, maxRingEntries, rkeyEntries } from '../spec/limits.js';
import {
  decodeRegister,
  encodeRegister,
  MMIO_CAP0,
  MMIO_CAP1,
  MMIO_CTL0,
  MMIO_CTL2,
  MMIO_STS0,
  MMIO_VERSION,
  Reg,
} from '../spec/registers.js';
import type { WorkOptions } from './context.js';
import { functionError } from './errors.js';

/** What a function can do: VERSION, CAP0 and CAP1, decoded, and cut down to the limits that the driver chose in CTL2. */
export interface Capabilities {
  /** `1.0`. */
  readonly version: string;
  readonly sfunc: number;
  /** A virtual function. */
  readonly vf: boolean;
  readonly csCap: number;
  /** Encoded; {@link doorbellStrideBytes} is what it means. */
  readonly dbStride: number;
  readonly doorbellStrideBytes: number;
  readonly maxRingEntries: number;
  readonly rkeyCap: boolean;
  readonly maxRkeys: number;
  readonly mmio64: boolean;
  readonly maxErrorLogBytes: number;
  /** Encoded, as in CXT_L1_ENT. */
  readonly maxAkeySize: number;
  readonly maxAkeys: number;
  /** Encoded, as in CXT_L1_ENT. */
  readonly maxBuffer: number;
  readonly maxBufferBytes: number;
  /** Highest context number. */
  readonly maxContext: number;
  /** Optional operation groups, bit n for type n; DMA base and admin are always there (S-7). */
  readonly opGroups: number;
}

/** Limits that the driver asks for in CTL2; each at most what the function has. */
export interface Limits {
  maxBuffer?: number;
  maxAkeySize?: number;
  maxContext?: number;
  opGroups?: number;
}

/** STS0.fn_gsv. */
export function functionState(bus: Bus): FunctionState {
  return decodeRegister(MMIO_STS0, bus.readRegister(Reg.STS0)).fn_gsv as FunctionState;
}

/**
 * Writes CTL0 with a state request. Every write carries one (ref §2.3), and the group id must survive.
 * @param fields everything but fn_grp_id
 */
function request(bus: Bus, fn_gsr: FunctionRequest, fields: { fn_err_intr_en?: number } = {}): void {
  const { fn_grp_id } = decodeRegister(MMIO_CTL0, bus.readRegister(Reg.CTL0));
  bus.writeRegister(Reg.CTL0, encodeRegister(MMIO_CTL0, { fn_grp_id, ...fields, fn_gsr }));
}

/** As {@link request}, but all other fields stay as they are. */
function requestKeeping(bus: Bus, fn_gsr: FunctionRequest): void {
  bus.writeRegister(Reg.CTL0, encodeRegister(MMIO_CTL0, { ...decodeRegister(MMIO_CTL0, bus.readRegister(Reg.CTL0)), fn_gsr }));
}

/** Waits for one of some states. STS0 is read at once, and once more after the deadline (F-43). */
async function reach(
  bus: Bus,
  name: string,
  states: readonly FunctionState[],
  options: Required<Pick<WorkOptions, 'timeoutMs'>> & WorkOptions,
): Promise<FunctionState> {
  const read = (): FunctionState => {
    const state = functionState(bus);
    // 6 and 7 mean nothing, and a device that is gone reads all ones (F-34, F-49).
    if (state > FunctionState.ERROR) throw functionError(name, state, 'the function reports a state that does not exist');
    return state;
  };
  let state = read();
  if (states.includes(state)) return state;
  const reached = (): boolean => {
    state = read();
    return states.includes(state);
  };
  await bus.wait(reached, { what: `${name}: function state`, mode: 'polled', ...options });
  return state;
}

/**
 * Brings a function to STOP from whatever state, as in ref §3.5. Already there, it is left alone: no request is written.
 * @param hard do not wait for descriptors in execution
 * @param patient do not hurry a soft stop that takes too long: it goes on when the time is over
 * @returns whether it was hard, or had to become so: descriptors in execution were abandoned then
 * @throws TimeoutError, FunctionError, AbortError
 */
export async function stopFunction(
  bus: Bus,
  name: string,
  { hard = false, patient = false, timeoutMs, signal }: { hard?: boolean; patient?: boolean; timeoutMs: number; signal?: AbortSignal },
): Promise<boolean> {
  const { STOP, INIT, ACTIVE, STOPG_SF, ERROR } = FunctionState;
  const limit = { timeoutMs, signal };
  let state = functionState(bus);
  let hurried = hard;
  if (state === STOP) return false;
  if (state === INIT || state === ACTIVE) {
    requestKeeping(bus, hard ? FunctionRequest.STOP_HD : FunctionRequest.STOP_SF);
    if (!hard) {
      try {
        state = await reach(bus, name, [STOP, ERROR], limit);
      } catch (error) {
        // A soft stop waits for the descriptor in execution (S-87), or for ever (F-9): hurry it.
        if (patient || !(error instanceof TimeoutError)) throw error;
        requestKeeping(bus, FunctionRequest.STOP_HD);
        hurried = true;
      }
    }
  } else if (state === STOPG_SF && (hard || !patient)) {
    requestKeeping(bus, FunctionRequest.STOP_HD);
    hurried = true;
  }
  state = await reach(bus, name, [STOP, ERROR], limit);
  if (state === ERROR) {
    request(bus, FunctionRequest.RESET);
    await reach(bus, name, [STOP], limit);
  }
  return hurried;
}

/** Step (pre) of ref §3.4 once the function is stopped: CTL0 cleared but for the group, VERSION read. @throws SdxiError ERR_SDXI_UNSUPPORTED */
export function prepare(bus: Bus, name: string): string {
  // RESET in STOP does nothing (O-7), and it replaces an ACTIVE that may be left from an ignored request (S-90).
  request(bus, FunctionRequest.RESET);
  return readVersion(bus, name);
}

/** VERSION. @throws SdxiError ERR_SDXI_UNSUPPORTED */
export function readVersion(bus: Bus, name: string): string {
  const { major, minor } = decodeRegister(MMIO_VERSION, bus.readRegister(Reg.VERSION));
  if (major !== 1) {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', `${name} speaks SDXI ${major}.${minor}`, { hint: 'this driver speaks SDXI 1.x' });
  }
  return `${major}.${minor}`;
}

/** Steps 1.a and 1.b: reads CAP0 and CAP1, writes the chosen limits to CTL2. */
export function chooseLimits(bus: Bus, version: string, wanted: Limits): Capabilities {
  const cap0 = decodeRegister(MMIO_CAP0, bus.readRegister(Reg.CAP0));
  const cap1 = decodeRegister(MMIO_CAP1, bus.readRegister(Reg.CAP1));
  const maxBuffer = Math.min(cap1.max_buffer, wanted.maxBuffer ?? cap1.max_buffer);
  const maxAkeySize = Math.min(cap1.max_akey_sz, wanted.maxAkeySize ?? cap1.max_akey_sz);
  const maxContext = Math.min(cap1.max_cxt, wanted.maxContext ?? cap1.max_cxt);
  const opGroups = (cap1.opb_000_cap & (wanted.opGroups ?? 0xffffffff)) >>> 0;
  bus.writeRegister(
    Reg.CTL2,
    encodeRegister(MMIO_CTL2, { max_buffer: maxBuffer, max_akey_sz: maxAkeySize, max_cxt: maxContext, opb_000_avl: opGroups }),
  );
  return {
    version,
    sfunc: cap0.sfunc,
    vf: cap0.vf === 1,
    csCap: cap0.cs_cap,
    dbStride: cap0.db_stride,
    doorbellStrideBytes: doorbellStride(cap0.db_stride),
    maxRingEntries: maxRingEntries(cap0.max_ds_ring_sz),
    rkeyCap: cap1.rkey_cap === 1,
    maxRkeys: rkeyEntries(cap0.max_rkey_sz),
    mmio64: cap1.mmio64 === 1,
    maxErrorLogBytes: maxErrorLogBytes(cap1.max_errlog_sz),
    maxAkeySize,
    maxAkeys: akeyEntries(maxAkeySize),
    maxBuffer,
    // One descriptor can say 4 GiB, whatever the function could do.
    maxBufferBytes: Math.min(maxBufferBytes(maxBuffer), 2 ** 32),
    maxContext,
    opGroups,
  };
}

/** Step 9: ACTIVE, with the function's error interrupt. @throws FunctionError when it ends in ERROR; TimeoutError */
export async function activate(bus: Bus, name: string, limit: { timeoutMs: number; signal?: AbortSignal }): Promise<void> {
  request(bus, FunctionRequest.ACTIVE, { fn_err_intr_en: 1 });
  const state = await reach(bus, name, [FunctionState.ACTIVE, FunctionState.ERROR], limit);
  if (state !== FunctionState.ACTIVE) throw functionError(name, state, 'activation failed');
}
