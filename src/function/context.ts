import { type AddressSpace, Mapping, NO_PASID } from '../memory/address-space.js';
import { Window } from '../memory/window.js';
import { ContextState, type ErrorStep, type SubStep } from '../spec/index.js';
import type { Peer } from './fabric.js';
import type { Flight } from './flight.js';
import type { AdminTarget } from './operations/admin.js';
import type { DescriptorFault } from './ports.js';

/** A mapping that allows nothing: the start value of remembered mappings, so that they are never undefined. */
export const NO_MAPPING = new Mapping(0, 1, 3, new Window(new ArrayBuffer(8)), 0);
NO_MAPPING.revoke();

/** A stop that is asked for and not finished yet. */
export type Stop = 'none' | 'soft' | 'hard';

/** What a context is busy with between two slices. */
export const Work = { NONE: 0, COPY: 1, FILL: 2, ADMIN: 3 } as const;
export type Work = (typeof Work)[keyof typeof Work];

/**
 * What the function knows of one context. Nothing here survives a stop: state, Read_Index and configuration live in
 * memory (ref §1), this is the working copy of a load (ref §6.2) and the descriptor in execution.
 */
export class FunctionContext {
  readonly number: number;

  /** Member of the running set (S-79). */
  running = false;
  /** Last state that the function wrote or loaded; meaningful while running. */
  state: ContextState = ContextState.STOP_SW;
  /** Waiting for its turn in the engine's queue, and who comes after it there. */
  queued = false;
  behind: FunctionContext | undefined;
  /** Its slot is looked at without a doorbell: option `pollInvalid`. */
  watched = false;
  /** Doorbell latch (S-71). */
  rung = false;
  /** Nothing to fetch: the next doorbell loads again. */
  idle = true;
  /** A CXT_UPD or FN_UPD asks for a new load before the next descriptor (S-108). */
  reload = false;
  /** A failed load was logged; quiet until one succeeds (S-36). */
  loadFailureLogged = false;
  stop: Stop = 'none';

  // From L1 and CXT_CTL.
  ring = 0;
  ringSize = 0;
  statusAddress = 0;
  writeIndexAddress = 0;
  akeyTable = 0;
  akeyCount = 0;
  /** max_buffer and opb_000_enb of the L1 entry. */
  l1MaxBuffer = 0;
  l1OpGroups = 0;
  /** CXT_CTL.qos, 0 … 3. */
  qos = 0;
  /** CXT_CTL.se: every descriptor counts as sequential. */
  sequential = false;
  /** Completion may overwrite the signal (CXT_CTL.csa, S-14). */
  completionOverwrite = false;
  /** PASID of ring, CXT_STS, Write_Index, CSB (ref §7.3); of data without one of its own (ref §7.1). */
  structurePasid = NO_PASID;
  dataPasid = NO_PASID;
  /** PASID of the AKey table: fn_pasid at the time of the load (S-12, S-49). */
  tablePasid = NO_PASID;

  // Limits in force, recomputed when the registers or the load change.
  limitsGeneration = -1;
  maxBytes = 0;
  opGroups = 0;

  // Position in the ring.
  readIndex = 0;
  writeIndex = 0;
  slot = 0;
  /** Where the descriptor in execution lies, should the tables change meanwhile. */
  slotAddress = 0;
  /** Descriptors consumed whose Read_Index is not in memory yet. */
  unpublished = 0;

  // Mappings that served last; each is checked before every use. They belong to structurePasid, the AKeys' to tablePasid.
  ringMap: Mapping = NO_MAPPING;
  statusMap: Mapping = NO_MAPPING;
  writeIndexMap: Mapping = NO_MAPPING;
  akeyMap: Mapping = NO_MAPPING;
  csbMap: Mapping = NO_MAPPING;
  sourceMap: Mapping = NO_MAPPING;
  sourceMapSpace: AddressSpace | undefined;
  destinationMap: Mapping = NO_MAPPING;
  destinationMapSpace: AddressSpace | undefined;

  // The descriptor in execution. `descriptor` is a private copy: producers that change a slot after vl=1 change nothing.
  work: Work = Work.NONE;
  /** vl is cleared and Read_Index is past it: `readIndex=early`. */
  taken = false;
  /** What else is in flight: option `reorder`. */
  flight: Flight | undefined;
  /** Counts descriptors, so that SYNC can tell "the one that was running" from a later one. */
  workNumber = 0;
  readonly descriptor = new Uint32Array(16);
  source: AddressSpace | undefined;
  destination: AddressSpace | undefined;
  /** Whose spaces these are, when remote keys lead there. */
  sourcePeer: Peer | undefined;
  destinationPeer: Peer | undefined;
  /** Their epochs at the lookup. */
  sourceEpoch = 0;
  destinationEpoch = 0;
  sourceAddress = 0;
  destinationAddress = 0;
  total = 0;
  done = 0;
  /** Copy from the end, because the destination overlaps the source from above (S-39, S-88). */
  backward = false;
  /** Bytes of it that are known to be accessible. */
  measured = 0;
  /** Why it was shortened, if it was. */
  cut: { subStep: SubStep; operand: number; address: number } | undefined;
  /** 4 KiB that REPCOPY repeats; allocated on first use. */
  block: Uint8Array | undefined;
  /** The byte that the whole block consists of, or -1. */
  uniform = -1;
  /** Progress of an admin descriptor that takes several turns. */
  adminNext = 0;
  /** First target that could not be started (S-27, S-83). */
  adminFailure: TargetFailure | undefined;
  adminWaits: { context: FunctionContext; workNumber: number }[] | undefined;
  /** The virtual function that it acts on; undefined: the function itself. */
  adminTarget: AdminTarget | undefined;

  /** A fault plan holds the descriptor at Read_Index back, or has let it go. */
  held: 'no' | 'yes' | 'released' = 'no';
  /** Counts holds, so that the end of one does not end the next. */
  holds = 0;
  /** A fault plan shows another Read_Index than the real one. */
  concealed: { shown: number; real: number } | undefined;
  /** What a fault plan has for the descriptor in execution. */
  fault: DescriptorFault | undefined;

  constructor(number: number) {
    this.number = number;
  }

  /** Takes over which spaces the structures lie in; remembered mappings of another space must not serve again. */
  place(structurePasid: number, tablePasid: number): void {
    if (structurePasid !== this.structurePasid) {
      this.structurePasid = structurePasid;
      this.ringMap = NO_MAPPING;
      this.statusMap = NO_MAPPING;
      this.writeIndexMap = NO_MAPPING;
      this.csbMap = NO_MAPPING;
    }
    if (tablePasid !== this.tablePasid) {
      this.tablePasid = tablePasid;
      this.akeyMap = NO_MAPPING;
    }
  }

  /** Leaves the running set: forgets what a load and an execution left, and doorbells not heard yet, but not the log-storm flag (S-36). */
  forget(): void {
    this.running = false;
    this.rung = false;
    this.idle = true;
    this.reload = false;
    this.stop = 'none';
    this.work = Work.NONE;
    this.taken = false;
    this.flight?.clear();
    this.unpublished = 0;
    this.source = undefined;
    this.destination = undefined;
    this.sourcePeer = undefined;
    this.destinationPeer = undefined;
    this.sourceMapSpace = undefined;
    this.destinationMapSpace = undefined;
    this.sourceMap = NO_MAPPING;
    this.destinationMap = NO_MAPPING;
    this.adminFailure = undefined;
    this.adminWaits = undefined;
    this.adminTarget = undefined;
    this.held = 'no';
    this.fault = undefined;
    this.concealed = undefined;
  }
}

/** Why the target of an admin descriptor was unusable. Ref §8.3 row 15. */
export interface TargetFailure {
  step: ErrorStep;
  subStep: SubStep;
  context: number;
}
