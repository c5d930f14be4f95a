import type { Bus } from '../bus/bus.js';
import { ArgumentError, SdxiError } from '../errors.js';
import { KEY_BYTES, TABLE_BYTES } from '../spec/limits.js';
import { encodeRegister, MMIO_RKEY, Reg } from '../spec/registers.js';
import type { Capabilities } from './activate.js';
import type { DmaSpace } from './dma.js';
import { RKeyTable } from './keys.js';

/** Entries of the smallest table: sz = 0. */
const ENTRIES_MIN = 256;

/**
 * Memory for consents to other functions, as many as are wanted, rounded up to 256 × 2^n.
 * @throws SdxiError ERR_SDXI_UNSUPPORTED for a function without remote keys; ArgumentError
 */
export function makeRkeys(
  dma: DmaSpace,
  { rkeyCap, sfunc, maxRkeys }: Capabilities,
  { name, rkeys }: { name: string; rkeys: number },
): RKeyTable {
  if (!rkeyCap || sfunc === 0) {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', `${name} has no remote keys`, {
      hint: 'it needs CAP1.rkey_cap and a handle of its own: embedded:?fabric=a&groupId=7&sfunc=1',
    });
  }
  if (!Number.isInteger(rkeys) || rkeys < 1 || rkeys > maxRkeys) {
    throw new ArgumentError(`rkeys cannot be ${String(rkeys)}`, { hint: `1 … ${maxRkeys} with this function`, fields: { rkeys } });
  }
  const entries = ENTRIES_MIN * 2 ** Math.max(0, Math.ceil(Math.log2(rkeys / ENTRIES_MIN)));
  return new RKeyTable(dma.allocate(entries * KEY_BYTES, TABLE_BYTES));
}

/** Tells the function where its table is; it is in force at once, also while the function is ACTIVE (S-48). */
export function programRkeys(bus: Bus, { iova, entries }: RKeyTable): void {
  bus.writeRegister(Reg.RKEY, encodeRegister(MMIO_RKEY, { en: 1, sz: Math.log2(entries / ENTRIES_MIN), ptr: iova }));
}
