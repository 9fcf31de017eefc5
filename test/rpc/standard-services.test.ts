// grpc.health.v1 and server reflection as foreign clients see them.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { credentials, type GrpcObject, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { describe, expect, test, vi } from 'vitest';
import { eventually, served } from './served.ts';

const require = createRequire(import.meta.url);
// biome-ignore lint/correctness/noUndeclaredDependencies: a foreign client reads .proto files; grpc-js brings the reader.
const protoLoader = require('@grpc/proto-loader') as {
  loadSync(file: string, options: object): Parameters<typeof loadPackageDefinition>[0];
};
const shipped = (library: string, file: string) => join(dirname(require.resolve(library)), '../proto', file);

function client(file: string, service: string, address: string) {
  const loaded = loadPackageDefinition(protoLoader.loadSync(file, { keepCase: false, enums: String, oneofs: true }));
  const ServiceClient = service.split('.').reduce<unknown>((at, key) => (at as GrpcObject)[key], loaded) as ServiceClientConstructor;
  return new ServiceClient(address, credentials.createInsecure()) as unknown as Record<string, (...arguments_: unknown[]) => never> & {
    close(): void;
  };
}

describe('health', () => {
  test('says what was set, for the server and each service, and streams changes', async () => {
    await using agent = await served();
    const health = client(require('grpc-health-check').protoPath, 'grpc.health.v1.Health', agent.address);
    const check = (service: string) =>
      new Promise((resolve) =>
        health['check']?.({ service }, (error: { code: number } | null, value: { status: string }) =>
          resolve(error ? error.code : value.status),
        ),
      );
    expect(await check('')).toBe('NOT_SERVING');
    agent.server.setServing('', true);
    agent.server.setServing('taplane.v1.NodeService', true);
    expect(await check('')).toBe('SERVING');
    expect(await check('taplane.v1.NodeService')).toBe('SERVING');
    expect(await check('taplane.v1.InterfaceService')).toBe('NOT_SERVING');
    expect(await check('taplane.v1.ResponderService')).toBe('NOT_SERVING');
    expect(await check('nobody')).toBe(5);
    const seen: string[] = [];
    const watch = health['watch']?.({ service: '' }) as unknown as NodeJS.EventEmitter & { cancel(): void };
    watch.on('data', ({ status }: { status: string }) => seen.push(status)).on('error', () => {});
    await eventually(() => seen.length === 1);
    void agent.server.stop(300);
    await eventually(() => seen.length === 2);
    expect(seen).toEqual(['SERVING', 'NOT_SERVING']);
    watch.cancel();
    health.close();
  });

  test('keeps no names of services that somebody has made up', async () => {
    const kept = vi.spyOn(HealthImplementation.prototype as unknown as { addWatcher(name: string): void }, 'addWatcher');
    await using agent = await served();
    const health = client(require('grpc-health-check').protoPath, 'grpc.health.v1.Health', agent.address);
    const seen: string[] = [];
    const watches = ['made-up', 'taplane.v1.NodeService'].map((service) => {
      const watch = health['watch']?.({ service }) as unknown as NodeJS.EventEmitter & { cancel(): void };
      return watch.on('data', ({ status }: { status: string }) => seen.push(status)).on('error', () => {});
    });
    await eventually(() => seen.length === 2);
    expect(seen.sort()).toEqual(['NOT_SERVING', 'SERVICE_UNKNOWN']);
    expect(kept.mock.calls.map(([name]) => name)).toEqual(['taplane.v1.NodeService']);
    for (const watch of watches) (watch as unknown as { cancel(): void }).cancel();
    health.close();
    kept.mockRestore();
  });
});

describe.each(['v1', 'v1alpha'])('reflection %s', (version) => {
  test('lists our services and gives their files with everything they import', async () => {
    await using agent = await served();
    const reflection = client(
      shipped('@grpc/reflection', `grpc/reflection/${version}/reflection.proto`),
      `grpc.reflection.${version}.ServerReflection`,
      agent.address,
    );
    const stream = reflection['serverReflectionInfo']?.() as unknown as NodeJS.ReadWriteStream & {
      end(): void;
      write(message: object): void;
    };
    const answers: {
      listServicesResponse?: { service: { name: string }[] };
      fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
      errorResponse?: object;
    }[] = [];
    stream.on('data', (answer) => answers.push(answer)).on('error', () => {});
    stream.write({ listServices: '*' });
    stream.write({ fileContainingSymbol: 'taplane.v1.InterfaceService' });
    stream.write({ fileContainingSymbol: 'no.such.Thing' });
    await eventually(() => answers.length === 3);
    const services = answers[0]?.listServicesResponse?.service.map((service) => service.name);
    expect(services?.sort()).toEqual([
      'grpc.health.v1.Health',
      'taplane.v1.AuditService',
      'taplane.v1.FlowService',
      'taplane.v1.InterfaceService',
      'taplane.v1.LinkService',
      'taplane.v1.NodeService',
      'taplane.v1.PacketService',
      'taplane.v1.ResponderService',
    ]);
    const files = answers[1]?.fileDescriptorResponse?.fileDescriptorProto.map(String);
    for (const file of [
      'taplane/v1/interface_service.proto',
      'taplane/v1/interface.proto',
      'google/protobuf/field_mask.proto',
      'google/protobuf/timestamp.proto',
    ]) {
      expect(
        files?.some((bytes) => bytes.includes(file)),
        file,
      ).toBe(true);
    }
    expect(answers[2]?.errorResponse).toMatchObject({ errorCode: 5 });
    stream.end();
    reflection.close();
  });
});
