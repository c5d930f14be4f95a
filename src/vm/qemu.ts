import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { SdxiError } from '../errors.js';
import { fetchedProgram, type Tools } from './packages.js';

/** How QEMU is started: a program and the arguments that come before all others. */
export interface QemuProgram {
  readonly command: string;
  readonly args: readonly string[];
}

/** The fetched QEMU runs by the loader and the libraries of its own tree, which are younger than this machine's. */
export function fetchedQemu({ root }: Tools): QemuProgram {
  const [command, ...args] = fetchedProgram(root, PROGRAM);
  return { command, args: [...args, '-L', join(root, 'usr/share/qemu'), '-L', join(root, 'usr/share/seabios')] };
}

const PROGRAM = 'qemu-system-x86_64';

/** A QEMU on the path of this machine that knows vfio-user, if there is one. */
export function installedQemu(path = process.env.PATH ?? ''): QemuProgram | undefined {
  const commands = path
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, PROGRAM));
  const command = commands.find((candidate) => existsSync(candidate) && knowsVfioUser(candidate));
  return command === undefined ? undefined : { command, args: [] };
}

/** Whether a QEMU of this machine knows vfio-user (10.1 and later). */
export function knowsVfioUser(command: string): boolean {
  const { stdout, status } = spawnSync(command, ['-device', 'help'], { encoding: 'utf8', timeout: 30_000 });
  return status === 0 && stdout.includes('vfio-user-pci');
}

/** @throws SdxiError ERR_SDXI_UNSUPPORTED for a QEMU that cannot do it */
export function namedQemu(command: string): QemuProgram {
  if (knowsVfioUser(command)) return { command, args: [] };
  throw new SdxiError('ERR_SDXI_UNSUPPORTED', `${command} is no QEMU with vfio-user-pci`, {
    hint: 'QEMU 10.1 and later have it; leave out --qemu and one is fetched',
    fields: { qemu: command },
  });
}

/** The machine around the guest. */
export interface MachineOptions {
  /** Sockets of functions, in the order of their PCI slots. */
  readonly sockets: readonly string[];
  readonly memoryMiB: number;
  readonly iommu: 'none' | 'intel';
  /** Functions behind a PCI Express root port each, instead of on the root bus. */
  readonly rootPort: boolean;
  readonly kvm: boolean;
  /** The guest may restart; else a restart ends QEMU. */
  readonly reboot: boolean;
  /** What the first serial port is: `stdio`, or a file for the kernel's messages; then commands go over the second, which is stdio. */
  readonly console: 'stdio' | { readonly file: string };
  /** Path of a socket for QEMU's own commands. */
  readonly qmp?: string;
  readonly kernelArgs: readonly string[];
  readonly qemuArgs: readonly string[];
}

/** Quick to boot, and nothing that slows an emulated processor down. */
const KERNEL_ARGS =
  'console=ttyS0 panic=-1 mitigations=off nokaslr quiet lpj=4000000 tsc=reliable no_timer_check 8250.nr_uarts=2 cryptomgr.notests random.trust_cpu=on lsm= audit=0';

/** A path among options that commas part. */
const escaped = (path: string): string => path.replaceAll(',', ',,');

function device(path: string, bus?: string): string[] {
  const properties = { driver: 'vfio-user-pci', socket: { type: 'unix', path }, ...(bus === undefined ? {} : { bus }) };
  return ['-device', JSON.stringify(properties)];
}

/** Arguments of QEMU for a machine with these functions; the memory is shared, because the functions work in it. */
export function machineArguments(kernel: string, initrd: string, options: MachineOptions): string[] {
  const { sockets, memoryMiB, iommu, rootPort, kvm, reboot, qmp, kernelArgs, qemuArgs } = options;
  const intel = iommu === 'intel';
  // For people: Ctrl-C goes to the guest, and Ctrl-A X ends QEMU.
  const serial =
    options.console === 'stdio'
      ? ['-chardev', 'stdio,id=console,mux=on,signal=off', '-serial', 'chardev:console']
      : ['-serial', `file:${options.console.file}`, '-serial', 'stdio'];
  const append = [
    KERNEL_ARGS,
    ...(intel ? ['intel_iommu=on'] : []),
    ...(options.console === 'stdio' ? ['sdxi.console'] : []),
    ...kernelArgs,
  ];
  const functions = sockets.flatMap((path, i) =>
    rootPort ? ['-device', `pcie-root-port,id=port${i},chassis=${i + 1},slot=${i + 1}`, ...device(path, `port${i}`)] : device(path),
  );
  return [
    ...['-accel', kvm ? 'kvm' : 'tcg', '-cpu', kvm ? 'host' : 'qemu64', '-smp', '1', '-m', `${memoryMiB}M`],
    ...['-machine', `q35,usb=off,vmport=off,memory-backend=mem0${intel && kvm ? ',kernel-irqchip=split' : ''}`],
    ...['-object', `memory-backend-memfd,id=mem0,size=${memoryMiB}M,share=on`],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-monitor', 'none', '-net', 'none'],
    ...serial,
    ...(reboot ? [] : ['-no-reboot']),
    ...(qmp === undefined ? [] : ['-qmp', `unix:${escaped(qmp)},server=on,wait=off`]),
    ...['-kernel', kernel, '-initrd', initrd, '-append', append.join(' ')],
    ...(intel ? ['-device', 'intel-iommu,caching-mode=on,intremap=on'] : []),
    ...functions,
    ...qemuArgs,
  ];
}
