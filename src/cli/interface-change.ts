// What create, update, delete, adopt and plan do. Each prints the resource it got; a dry run prints the plan instead.

import { Interface, InterfaceSpec, PlanStep } from '../gen/taplane/v1/interface.ts';
import {
  AdoptInterfaceRequest,
  CreateInterfaceRequest,
  DeleteInterfaceResponse,
  UpdateInterfaceRequest,
} from '../gen/taplane/v1/interface_service.ts';
import type { ClientError, TaplaneClient } from '../rpc/client.ts';
import { UsageError } from './exit-code.ts';
import { printInterfaces } from './interface-read.ts';
import { idOf, planLines, resourceName } from './interface-view.ts';
import { readManifest } from './manifest.ts';
import { message, print, printDocument } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { givenSpec } from './spec-flags.ts';

export interface ChangeOptions {
  dryRun?: boolean;
  validateOnly?: boolean;
  requestId?: string;
}

interface SpecOptions extends ChangeOptions {
  file?: string;
  clear?: string[];
  addLabel?: [string, string][];
  removeLabel?: string[];
  etag?: string;
  create?: boolean;
}

/** The interface that file or flags describe, and which of its fields they speak of. */
interface Wanted {
  name: string;
  wanted: Interface;
  paths: string[];
}

export async function create(name: string | undefined, options: SpecOptions, settings: Settings): Promise<void> {
  const { name: resource, wanted, paths } = await read(name, options);
  if (options.file === undefined && !paths.includes('spec.mode')) throw new UsageError('--mode tun or --mode tap is needed');
  await withClient(settings, async ({ interfaces }) => {
    const request = CreateInterfaceRequest.fromPartial({ interfaceId: idOf(resource), interface: wanted, ...control(options) });
    await show(await interfaces.create(request), options, settings);
  });
}

export async function update(name: string | undefined, options: SpecOptions, settings: Settings): Promise<void> {
  const { name: resource, wanted, paths } = await read(name, options);
  for (const field of options.clear ?? []) paths.push(field === 'labels' ? field : `spec.${field.replaceAll('-', '_')}`);
  const labels = options.addLabel ?? options.removeLabel;
  if (paths.length === 0 && !labels) throw new UsageError('nothing to change: give at least one flag, or -f FILE');
  await withClient(settings, async ({ interfaces }) => {
    // An etag that came with a file counts only where the file replaces everything, which is what it was read for.
    const changed = { ...wanted, name: resource, etag: options.etag ?? wanted.etag };
    if (labels) {
      const current = await interfaces.get({ name: resource });
      changed.labels = { ...current.labels, ...wanted.labels, ...Object.fromEntries(options.addLabel ?? []) };
      for (const key of options.removeLabel ?? []) delete changed.labels[key];
      // Read, changed and written back: only if nobody else did the same meanwhile.
      changed.etag ||= current.etag;
      if (!paths.includes('labels')) paths.push('labels');
    }
    const request = UpdateInterfaceRequest.fromPartial({
      interface: changed,
      updateMask: paths,
      allowMissing: options.create === true,
      ...control(options),
    });
    await show(await interfaces.update(request), options, settings);
  });
}

export async function plan(name: string | undefined, options: SpecOptions, settings: Settings): Promise<void> {
  const { name: resource, wanted, paths } = await read(name, options);
  await withClient(settings, async ({ interfaces }) => {
    const there = await exists(interfaces, resource);
    const answer = there
      ? await interfaces.update(
          UpdateInterfaceRequest.fromPartial({ interface: { ...wanted, name: resource }, updateMask: paths, validateOnly: true }),
        )
      : await interfaces.create(CreateInterfaceRequest.fromPartial({ interfaceId: idOf(resource), interface: wanted, validateOnly: true }));
    await show(answer, { dryRun: true }, settings);
  });
}

export async function remove(
  names: string[],
  options: ChangeOptions & { missingOk?: boolean; etag?: string },
  settings: Settings,
): Promise<void> {
  if (names.length > 1 && options.requestId) throw new UsageError('--request-id names one call: delete one interface at a time');
  await withClient(settings, async ({ interfaces }) => {
    for (const name of names) {
      const answer = await interfaces.delete({
        name: resourceName(name),
        etag: options.etag ?? '',
        allowMissing: options.missingOk === true,
        ...control(options),
      });
      if (settings.output === 'json' || settings.output === 'yaml')
        await printDocument(settings.output, DeleteInterfaceResponse.toJSON(answer));
      else if (isDryRun(options)) print(planLines(answer.plan));
      else if (settings.output === 'name') print(`${resourceName(name)}\n`);
      else message(`deleted ${idOf(name)}`);
    }
  });
}

export async function adopt(
  name: string,
  options: ChangeOptions & { netns?: string; label?: [string, string][]; takeOver?: boolean },
  settings: Settings,
): Promise<void> {
  await withClient(settings, async ({ interfaces }) => {
    const request = AdoptInterfaceRequest.fromPartial({
      interfaceId: idOf(name),
      networkNamespace: options.netns ?? '',
      labels: Object.fromEntries(options.label ?? []),
      takeOver: options.takeOver === true,
      ...control(options),
    });
    await show(await interfaces.adopt(request), options, settings);
  });
}

export function control(options: ChangeOptions): { requestId: string; validateOnly: boolean } {
  return { requestId: options.requestId ?? '', validateOnly: isDryRun(options) };
}

/** Prints the resource, or after a dry run the plan. */
export async function show(one: Interface, options: ChangeOptions, settings: Settings): Promise<void> {
  if (!isDryRun(options)) return printInterfaces([one], settings, Interface.toJSON(one));
  if (settings.output === 'json' || settings.output === 'yaml')
    return printDocument(settings.output, { plan: one.plan.map((step) => PlanStep.toJSON(step)) });
  if (one.plan.length === 0) message('nothing to do');
  print(planLines(one.plan));
}

export function isDryRun(options: ChangeOptions): boolean {
  return options.dryRun === true || options.validateOnly === true;
}

async function read(name: string | undefined, options: SpecOptions): Promise<Wanted> {
  const { spec, labels, paths } = givenSpec(options as Record<string, unknown>);
  if (options.file === undefined) {
    if (name === undefined) throw new UsageError('name an interface, or give -f FILE');
    return { name: resourceName(name), wanted: Interface.fromPartial({ spec: InterfaceSpec.fromJSON(spec), labels: labels ?? {} }), paths };
  }
  const wanted = await readManifest(options.file);
  // Flags win over the file, field by field, labels one by one.
  const given = InterfaceSpec.fromJSON(spec);
  const overridden = Object.fromEntries(Object.keys(spec).map((field) => [field, given[field as keyof InterfaceSpec]]));
  if (paths.some((path) => path.startsWith('spec.'))) wanted.spec = { ...(wanted.spec ?? InterfaceSpec.create()), ...overridden };
  Object.assign(wanted.labels, labels);
  const chosen = name ?? wanted.name;
  if (chosen === '') throw new UsageError('name an interface, on the command line or as `name` in the file');
  return { name: resourceName(chosen), wanted, paths: ['*'] };
}

async function exists(interfaces: TaplaneClient['interfaces'], name: string): Promise<boolean> {
  if (name.includes('%')) return false;
  try {
    await interfaces.get({ name });
    return true;
  } catch (error) {
    const { code } = error as ClientError;
    // A name that cannot exist is for create to judge, with every other bad field.
    if (code === 'NOT_FOUND' || code === 'INVALID_ARGUMENT') return false;
    throw error;
  }
}
