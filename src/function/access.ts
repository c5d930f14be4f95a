import { Access, type AddressSpace, type Mapping } from '../memory/address-space.js';
import { ErrorStep, SubStep } from '../spec/index.js';
import type { FunctionContext } from './context.js';
import type { Core } from './core.js';
import { admits, type Peer } from './fabric.js';

const VALID = 1;
const INTERRUPT_VALID = 2;
const PASID_VALID = 4;
const PASID = 0xfffff;

/** intr_num of the first dword of an AKEY_ENT or RKEY_ENT. */
function vectorOf(low: number): number {
  return (low >>> 4) & 0x7ff;
}

/** tgt_sfunc of an AKEY_ENT, req_sfunc of an RKEY_ENT: who is meant, 0 = the function itself. */
function sfuncOf(low: number): number {
  return low >>> 16;
}

/**
 * The AKey entry that an operand names, checked by ref §7.1 item 1; it is read anew at each use (`cache=none`, ref §4.11).
 * @returns the mapping that holds it, with the entry at {@link entryAddress}; undefined after {@link Core.fail}
 */
function findAkey(core: Core, context: FunctionContext, akey: number, operand: number): Mapping | undefined {
  if (akey >= context.akeyCount) {
    core.fail(ErrorStep.DSC_AKEY, SubStep.DVF, operand);
    return undefined;
  }
  const address = entryAddress(context, akey);
  let map = context.akeyMap;
  if (!map.covers(address, 16, Access.READ)) {
    const space = core.memory.of(context.tablePasid);
    const found = space?.find(address, 16, Access.READ);
    if (!found) {
      core.failAccess(ErrorStep.DSC_AKEY, space, address, 16, operand);
      return undefined;
    }
    map = found;
    context.akeyMap = map;
  }
  if ((map.load32(address) & VALID) === 0) {
    core.fail(ErrorStep.DSC_AKEY, SubStep.DVF, operand);
    return undefined;
  }
  return map;
}

function entryAddress(context: FunctionContext, akey: number): number {
  return context.akeyTable + akey * 16;
}

/** What a remote key leads to. */
interface Consent {
  peer: Peer;
  /** First dword of the RKEY_ENT. */
  low: number;
  /** PASID of the target's space, or -1 for its own. */
  pasid: number;
}

/**
 * The consent of another function of the group, or of this one under its own handle (S-38): ref §7.1 item 3, each check at its step.
 * @returns undefined after {@link Core.fail}
 */
function findConsent(core: Core, akey: Mapping, address: number, operand: number): Consent | undefined {
  const invalid = (): undefined => {
    core.fail(ErrorStep.FN_RKEY, SubStep.DVF, operand);
    return undefined;
  };
  const akeyLow = akey.load32(address);
  const akeyPasid = akey.load32(address + 4) & PASID;
  const rkey = akey.load32(address + 12) & 0xffff;
  const peer = core.config.rkeyCap ? core.fabric.find(core.peer, sfuncOf(akeyLow)) : undefined;
  if (!peer || !admits(peer) || !peer.rkeysUsable) return invalid();
  if (rkey >= peer.rkeyCount) return invalid();
  const entry = peer.rkeyTable + rkey * 16;
  const space = peer.memory.of(peer.functionPasid);
  const map = space?.find(entry, 16, Access.READ);
  if (!map) {
    core.failAccess(ErrorStep.FN_RKEY, space, entry, 16, operand);
    return undefined;
  }
  const low = map.load32(entry);
  const pasid = map.load32(entry + 4) & PASID;
  if ((low & VALID) === 0 || sfuncOf(low) !== core.config.sfunc) return invalid();
  // Both sides name the same space, or none (S-29).
  if (((low ^ akeyLow) & PASID_VALID) !== 0) return invalid();
  const named = (low & PASID_VALID) !== 0;
  if (named && pasid !== akeyPasid) return invalid();
  return { peer, low, pasid: named ? pasid : -1 };
}

/**
 * The address space that an operand's AKey names. Ref §7.1 items 1–3.
 * @param operand 0 = source or target, 1 = destination or return data: sets `context.source` or `context.destination`, and the
 * peer whose space that is, when it is reached by a remote key
 * @returns false after {@link Core.fail}
 */
export function resolveSpace(core: Core, context: FunctionContext, akey: number, operand: number): boolean {
  const map = findAkey(core, context, akey, operand);
  if (map === undefined) return false;
  const address = entryAddress(context, akey);
  const low = map.load32(address);
  let space: AddressSpace | undefined;
  let peer: Peer | undefined;
  if (sfuncOf(low) === 0) {
    space = core.memory.of((low & PASID_VALID) !== 0 ? map.load32(address + 4) & PASID : context.dataPasid);
  } else {
    const consent = findConsent(core, map, address, operand);
    if (consent === undefined) return false;
    peer = consent.peer;
    space = peer.memory.of(consent.pasid);
  }
  if (operand === 0) {
    context.source = space;
    context.sourcePeer = peer;
  } else {
    context.destination = space;
    context.destinationPeer = peer;
  }
  return true;
}

/** Which operand's target function has stopped since its space was resolved, or -1: looked at before each slice (S-99). */
export function stoppedPeer({ sourcePeer, destinationPeer }: FunctionContext): number {
  if (sourcePeer !== undefined && !admits(sourcePeer)) return 0;
  return destinationPeer !== undefined && !admits(destinationPeer) ? 1 : -1;
}

/**
 * Raises the interrupt that an INTR's AKey names: a vector of this function, or the one that the RKEY_ENT of another grants.
 * Ref §7.2, O-17, S-94. For a remote one iv and intr_num of the AKey mean nothing (S-111).
 * @returns false after {@link Core.fail}
 */
export function raiseByKey(core: Core, context: FunctionContext, akey: number): boolean {
  const map = findAkey(core, context, akey, 0);
  if (map === undefined) return false;
  const address = entryAddress(context, akey);
  const low = map.load32(address);
  if (sfuncOf(low) === 0) {
    const vector = vectorOf(low);
    if ((low & INTERRUPT_VALID) === 0 || vector >= core.ports.interrupts.vectors) {
      core.fail(ErrorStep.DSC_AKEY, SubStep.DVF, 0);
      return false;
    }
    core.raise(vector);
    return true;
  }
  const consent = findConsent(core, map, address, 0);
  if (consent === undefined) return false;
  const { interrupts } = consent.peer;
  const vector = vectorOf(consent.low);
  if ((consent.low & INTERRUPT_VALID) === 0 || vector >= interrupts.vectors) {
    core.fail(ErrorStep.FN_RKEY, SubStep.DVF, 0);
    return false;
  }
  interrupts.raise(vector);
  return true;
}
