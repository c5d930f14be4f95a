import { ArgumentError } from '../errors.js';
import { Cap, capabilities, PowerState } from './capabilities.js';
import { CONFIG_BYTES, ConfigSpace, checkAccess } from './config-space.js';
import { barSizes, header } from './header.js';
import { checkIdentity, checkShape, type PciIdentity, type PciShape } from './identity.js';
import { MSIX_BAR_BYTES, MsixTable } from './msix.js';
import { checkState, type PciState, saveState } from './state.js';

/** What a PCI function needs of the world around it. No method may call back into the function, `functionLevelReset` excepted. */
export interface PciPort {
  /** An MSI-X message of a vector. @returns whether somebody receives it */
  deliver(vector: number): boolean;
  /** {@link PciFunction.busMastering} has changed: COMMAND.bus_master (S-47), or the power state (S-120). */
  busMaster(on: boolean): void;
  /** Device Control bit 15 was written with 1 (S-46, S-107). The shell itself has been reset already. */
  functionLevelReset(): void;
}

/** What has become of the interrupts that the function raised. They count on over resets. */
export interface PciCounters {
  /** Messages that somebody received, those that had been pending included. */
  delivered: number;
  /** Interrupts that found their vector masked and set its pending bit, or found it set. */
  pended: number;
  /** Messages that went nowhere: MSI-X or bus mastering off, no receiver, or pending when MSI-X was switched off. */
  dropped: number;
}

/** What the interrupts of the function depend on. */
export interface MsixView {
  /** By the control word, or by {@link PciFunction.enableMsix}. */
  readonly enabled: boolean;
  readonly functionMask: boolean;
  /** The pending bit. @throws ArgumentError for a vector that the function has not */
  pending(vector: number): boolean;
  /** By its table entry or by the function mask. @throws ArgumentError for a vector that the function has not */
  masked(vector: number): boolean;
}

/**
 * The shell of a function on PCI Express: configuration space, and MSI-X in BAR 4. BARs 0 and 2 are the function's own; here is only how
 * large they are, and whether they answer. PCIe 6.0 ch. 7, ref §9, S-93 to S-95.
 */
export class PciFunction {
  /** Bytes of the BARs by number, 0 where there is none. All are 64-bit BARs. */
  readonly barBytes: readonly number[];
  readonly identity: Readonly<PciIdentity>;
  readonly counters: Readonly<PciCounters>;
  readonly msix: MsixView;
  private readonly shape: PciShape;
  private readonly port: PciPort;
  private readonly config: ConfigSpace;
  private readonly table: MsixTable;
  private readonly counted: PciCounters = { delivered: 0, pended: 0, dropped: 0 };
  /** What VFIO's SET_IRQS has set up. It is the transport's, not the function's: no reset and no restored state changes it (S-122). */
  private readonly receivers: boolean[];
  private enabledByTransport = false;
  /** What the port and the pending bits have been told last. */
  private told = { busMastering: false, enabled: false };

  /** @throws ArgumentError for a shape or an identity that PCI does not allow, or that would keep drivers away */
  constructor(shape: PciShape, port: PciPort, identity: Partial<PciIdentity> = {}) {
    this.shape = checkShape(shape);
    this.identity = checkIdentity(identity);
    this.port = port;
    this.barBytes = barSizes(this.shape);
    this.config = new ConfigSpace([...header(this.shape, this.identity, Cap.PM), ...capabilities(this.shape.vectors, this.identity)]);
    this.table = new MsixTable(this.shape.vectors);
    this.receivers = new Array(this.shape.vectors).fill(false);
    this.counters = this.counted;
    this.msix = this.view();
  }

  private view(): MsixView {
    const shell = this;
    return {
      get enabled() {
        return shell.msixEnabled;
      },
      get functionMask() {
        return shell.config.getField('MSIX_CONTROL', 'function_mask') === 1;
      },
      pending: (vector) => this.table.pending(this.checkVector(vector)),
      masked: (vector) => this.masked(this.checkVector(vector)),
    };
  }

  /** Whether the function may access memory and send interrupts: COMMAND.bus_master, and D0 (S-47, S-120). */
  get busMastering(): boolean {
    return this.config.getField('COMMAND', 'bus_master') === 1 && this.awake;
  }

  /** Whether BARs answer: COMMAND.memory_space, and D0. If not, they read all ones and ignore writes (S-95). */
  get memoryDecoding(): boolean {
    return this.config.getField('COMMAND', 'memory_space') === 1 && this.awake;
  }

  /** In D0, not in D3hot. */
  get awake(): boolean {
    return this.config.getField('PMCSR', 'power_state') === PowerState.D0;
  }

  /**
   * Any part of the 4096 bytes of configuration space.
   * @throws ArgumentError for an access that leaves it
   */
  readConfig(offset: number, into: Uint8Array): void {
    this.config.read(offset, into);
  }

  /**
   * Any part of the 4096 bytes of configuration space. A write that asks for a function-level reset does nothing else (S-123).
   * @throws ArgumentError for an access that leaves it
   */
  writeConfig(offset: number, bytes: Uint8Array): void {
    if (this.config.writesOne('DEVCTL', 'initiate_flr', offset, bytes)) {
      checkAccess('configuration space', CONFIG_BYTES, offset, bytes.length);
      this.reset();
      this.port.functionLevelReset();
      return;
    }
    const power = this.config.getField('PMCSR', 'power_state');
    this.config.write(offset, bytes);
    const wanted = this.config.getField('PMCSR', 'power_state');
    // The write completes and the state stays: PCIe 6.0 §7.5.2.2.
    if (wanted === PowerState.D1 || wanted === PowerState.D2) this.config.setField('PMCSR', 'power_state', power);
    this.settle();
  }

  /**
   * Any part of BAR 4; all ones while BARs do not answer (S-95).
   * @throws ArgumentError for an access that leaves it
   */
  readMsix(offset: number, into: Uint8Array): void {
    checkAccess('BAR 4', MSIX_BAR_BYTES, offset, into.length);
    if (this.memoryDecoding) this.table.read(offset, into);
    else into.fill(0xff);
  }

  /**
   * Any part of BAR 4; without effect while BARs do not answer (S-95). What was pending and is not masked any more is delivered.
   * @throws ArgumentError for an access that leaves it
   */
  writeMsix(offset: number, bytes: Uint8Array): void {
    checkAccess('BAR 4', MSIX_BAR_BYTES, offset, bytes.length);
    if (!this.memoryDecoding) return;
    this.table.write(offset, bytes);
    this.settle();
  }

  /**
   * The function raises a vector: it is delivered, or becomes pending while it is masked, or is dropped and counted (S-94, S-119).
   * @throws ArgumentError for a vector that the function has not
   */
  raise(vector: number): void {
    this.checkVector(vector);
    if (!this.msixEnabled) {
      this.counted.dropped++;
    } else if (this.masked(vector)) {
      this.counted.pended++;
      this.table.setPending(vector, true);
    } else {
      this.send(vector, this.busMastering);
    }
  }

  /** SET_IRQS enables or disables MSI-X as a whole, besides the control word. Receivers stay. */
  enableMsix(on: boolean): void {
    this.enabledByTransport = on;
    this.settle();
  }

  /**
   * SET_IRQS gives a vector a receiver, or takes it away. Its table entry is unmasked or masked, as vfio-pci does in hardware.
   * @throws ArgumentError for a vector that the function has not
   */
  setReceiver(vector: number, on: boolean): void {
    this.receivers[this.checkVector(vector)] = on;
    this.table.setMasked(vector, !on);
    this.settle();
  }

  /** SET_IRQS masks a vector. @throws ArgumentError for a vector that the function has not */
  maskVector(vector: number): void {
    this.table.setMasked(this.checkVector(vector), true);
  }

  /** SET_IRQS unmasks a vector: what is pending is delivered. @throws ArgumentError for a vector that the function has not */
  unmaskVector(vector: number): void {
    this.table.setMasked(this.checkVector(vector), false);
    this.settle();
  }

  /** Takes back all that SET_IRQS has set up: the client has gone. Vectors with a receiver are masked again. */
  releaseInterrupts(): void {
    this.receivers.forEach((has, vector) => {
      if (has) this.table.setMasked(vector, true);
    });
    this.receivers.fill(false);
    this.enabledByTransport = false;
    this.settle();
  }

  /**
   * Power-on, function-level reset, or a reset by the transport, which are the same (S-107). Configuration space and the MSI-X table are as
   * at power-on, and nothing is pending. What SET_IRQS has set up stays, and so do the counters (S-122).
   */
  reset(): void {
    this.config.reset();
    this.table.reset((vector) => this.receivers[vector]);
    this.settle();
  }

  /** All that software has changed, for another process to go on with: a plain object that JSON carries (S-124). */
  save(): PciState {
    return saveState(this.shape, this.identity, this.config, this.table);
  }

  /**
   * Takes a state over, whole or not at all. What SET_IRQS has set up here stays, mask bits of vectors with a receiver included; what is
   * pending and not masked here is delivered (S-124).
   * @throws SdxiError ERR_SDXI_STATE for anything but an unchanged state of a function with the same shape and identity
   */
  restore(state: PciState): void {
    const { registers, table, pending } = checkState(state, this.shape, this.identity, this.config, this.table);
    for (const [name, value] of registers) this.config.set(name, value);
    this.table.restore(table, pending, (vector) => this.receivers[vector]);
    // What was enabled here before says nothing of what is pending now: S-121 is not for this.
    this.told.enabled = this.msixEnabled;
    this.settle();
  }

  private get msixEnabled(): boolean {
    return this.enabledByTransport || this.config.getField('MSIX_CONTROL', 'enable') === 1;
  }

  private masked(vector: number): boolean {
    return this.msix.functionMask || this.table.masked(vector);
  }

  private checkVector(vector: number): number {
    if (Number.isInteger(vector) && vector >= 0 && vector < this.shape.vectors) return vector;
    throw new ArgumentError(`there is no vector ${vector}`, {
      fields: { vector, vectors: this.shape.vectors },
      hint: `this function has ${this.shape.vectors} vectors, from 0 on`,
    });
  }

  private send(vector: number, allowed: boolean): void {
    if (allowed && this.port.deliver(vector)) this.counted.delivered++;
    else this.counted.dropped++;
  }

  /** After anything that may have changed what is allowed: tells the port, and sends what is pending and may go. */
  private settle(): void {
    const busMastering = this.busMastering;
    if (busMastering !== this.told.busMastering) {
      this.told.busMastering = busMastering;
      this.port.busMaster(busMastering);
    }
    const enabled = this.msixEnabled;
    const pending = this.table.allPending();
    if (this.told.enabled && !enabled) {
      // Nobody waits for them any more, and who enables MSI-X again does not expect them (S-121).
      for (const vector of pending) this.table.setPending(vector, false);
      this.counted.dropped += pending.length;
    }
    this.told.enabled = enabled;
    if (!enabled || !busMastering || this.msix.functionMask) return;
    for (const vector of pending) {
      if (this.table.masked(vector)) continue;
      this.table.setPending(vector, false);
      this.send(vector, true);
    }
  }
}
