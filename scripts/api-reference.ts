// docs/api.md: the reference of the API for people, made of the comments in proto/. The descriptors come with their comments from buf.

import {
  createFileRegistry,
  type DescEnum,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescService,
  fromBinary,
} from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

const PACKAGE = 'taplane.v1';

type Described = DescService | DescMessage | DescEnum | DescField | DescService['methods'][number] | DescEnum['values'][number];

/** Of a FileDescriptorSet with source info: services, then the messages and enums of each file, in the order of proto/. Markdown. */
export function apiReference(descriptors: Uint8Array): string {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
  const files = [...registry.files].filter(({ proto }) => proto.package === PACKAGE).sort((a, b) => a.name.localeCompare(b.name, 'en'));
  const services = files.flatMap((file) => file.services);
  const parts = [
    '# API',
    'Made of `proto/taplane/v1`; what stands here stands there. Any gRPC client works, over the unix socket or mutual TLS.',
    'Every error is a `google.rpc.Status` with an `ErrorInfo` of domain `taplane.dev`; those that any call may have stand at [InterfaceService](#interfaceservice).',
    services
      .map((service) => `* [${service.typeName}](#${anchor(service.name)}): ${service.methods.map(({ name }) => name).join(', ')}`)
      .join('\n'),
    ...services.map(serviceText),
    ...files.flatMap((file) => fileText(file)),
  ];
  return `${parts.join('\n\n')}\n`;
}

function serviceText(service: DescService): string {
  const methods = service.methods.map((method) => {
    const stream = (streams: boolean): string => (streams ? 'stream of ' : '');
    const isClientStream = method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming';
    const isServerStream = method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming';
    const line = `${stream(isClientStream)}${link(method.input)} -> ${stream(isServerStream)}${link(method.output)}`;
    return `### ${service.name}.${method.name}\n\n${line}\n\n${comment(method)}`;
  });
  return [`## ${service.name}`, comment(service), ...methods].join('\n\n');
}

function fileText(file: DescFile): string[] {
  const messages = file.messages.flatMap(withNested);
  const enums = [...file.enums, ...messages.flatMap((message) => message.nestedEnums)];
  return [...messages.map(messageText), ...enums.map(enumText)];
}

function withNested(message: DescMessage): DescMessage[] {
  return [message, ...message.nestedMessages.flatMap(withNested)];
}

function messageText(message: DescMessage): string {
  const rows = message.fields.map((field) => {
    const name = field.oneof === undefined ? `\`${field.name}\`` : `\`${field.name}\` (one of \`${field.oneof.name}\`)`;
    return `| ${name} | ${typeOf(field)} | ${cell(comment(field))} |`;
  });
  const table = rows.length === 0 ? 'No fields.' : `| field | type | |\n| --- | --- | --- |\n${rows.join('\n')}`;
  return `## ${shortName(message)}\n\n${comment(message)}\n\n${table}`;
}

function enumText(described: DescEnum): string {
  const rows = described.values.map((value) => `| \`${value.name}\` | ${value.number} | ${cell(comment(value))} |`);
  return `## ${shortName(described)}\n\n${comment(described)}\n\n| value | number | |\n| --- | --- | --- |\n${rows.join('\n')}`;
}

function typeOf(field: DescField): string {
  switch (field.fieldKind) {
    case 'message':
      return link(field.message);
    case 'enum':
      return link(field.enum);
    case 'scalar':
      return scalarName(field.proto.type);
    case 'list':
      return `list of ${field.listKind === 'message' ? link(field.message) : field.listKind === 'enum' ? link(field.enum) : scalarName(field.proto.type)}`;
    case 'map': {
      const value =
        field.mapKind === 'message' ? link(field.message) : field.mapKind === 'enum' ? link(field.enum) : scalarName(field.scalar);
      return `map of ${scalarName(field.mapKey)} to ${value}`;
    }
  }
}

/** By the numbers of FieldDescriptorProto.Type, descriptor.proto. */
const SCALARS = [
  '',
  'double',
  'float',
  'int64',
  'uint64',
  'int32',
  'fixed64',
  'fixed32',
  'bool',
  'string',
  '',
  '',
  'bytes',
  'uint32',
  '',
  'sfixed32',
  'sfixed64',
  'sint32',
  'sint64',
];

function scalarName(type: number): string {
  return SCALARS[type] ?? '';
}

/** Of another package only its name. */
function link(described: DescMessage | DescEnum): string {
  return described.file.proto.package === PACKAGE
    ? `[${shortName(described)}](#${anchor(shortName(described))})`
    : `\`${described.typeName}\``;
}

function shortName({ typeName }: DescMessage | DescEnum): string {
  return typeName.slice(PACKAGE.length + 1);
}

/** As GitHub makes them of headings. */
function anchor(heading: string): string {
  return heading.toLowerCase().replaceAll('.', '');
}

/** Of what stands there: the lines before it, without the blank after `//`. */
function comment(described: Described): string {
  const path = pathOf(described).join();
  const file =
    described.kind === 'field' || described.kind === 'rpc' || described.kind === 'enum_value' ? described.parent.file : described.file;
  const found = file.proto.sourceCodeInfo?.location.find((location) => location.path.join() === path);
  return (found?.leadingComments ?? '').replaceAll(/^ /gm, '').trim();
}

/** The path of SourceCodeInfo.Location, descriptor.proto: numbers of fields and indices, from the file down. */
function pathOf(described: Described): number[] {
  switch (described.kind) {
    case 'service':
      return [6, described.file.services.indexOf(described)];
    case 'rpc':
      return [...pathOf(described.parent), 2, described.parent.methods.indexOf(described)];
    case 'message':
    case 'enum': {
      const { parent, file } = described;
      const isMessage = described.kind === 'message';
      if (parent === undefined) return isMessage ? [4, file.messages.indexOf(described)] : [5, file.enums.indexOf(described)];
      // Entries of maps are nested messages too, though not of `nestedMessages`.
      const siblings = isMessage ? parent.proto.nestedType : parent.proto.enumType;
      return [...pathOf(parent), isMessage ? 3 : 4, siblings.findIndex(({ name }) => name === described.name)];
    }
    case 'field':
      return [...pathOf(described.parent), 2, described.parent.fields.indexOf(described)];
    case 'enum_value':
      return [...pathOf(described.parent), 2, described.parent.values.indexOf(described)];
  }
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll(/\s*\n\s*/g, ' ');
}
