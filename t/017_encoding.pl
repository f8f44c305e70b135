# A database whose encoding is not UTF-8: messages are, so text is converted in
# both directions, keys and headers as well, and what the database cannot say is
# a dead letter.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use Test::More;

my $node = new_node('main');
my $columns = q{id bigint, s text, key text OPTIONS (metadata 'key'), headers jsonb OPTIONS (metadata 'headers'),
	position bigint OPTIONS (metadata 'offset')};

$node->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
create_server($node, 'latin');
my $topic = create_stream($node, 'words', $columns, database => 'latin');
create_stream($node, 'words', $columns, topic => $topic);
sub latin { return $node->safe_psql('latin', @_) }

# é, ü and ß are in Latin-1, € and ő are not; \xff is no UTF-8
produce($topic, 0, [ "k\xc3\xa9", qq({"id": 1, "s": "\xc3\xbc"}) ], [ 'k', q({"id": 2, "s": "\u00fc\u00df"}) ],
	{ key => 'k', value => qq({"id": 3, "s": "plain"}), headers => [ "h\xc3\xa9" => "\xc3\x9f" ] },
	[ 'k', qq({"id": 4, "s": "\xe2\x82\xac"}) ], [ 'k', q({"id": 5, "s": "\u0151"}) ], [ 'k', qq({"id": 6, "s": "\xff"}) ],
	[ "\xe2\x82\xac", '{"id": 7, "s": "euro"}' ], [ "\xff", '{"id": 8, "s": "key"}' ],
	[ 'k', qq({"id": 9, "\xc5\x91": 1}) ]);
latin(q{SELECT millrace.create_continuous_view('per_word', 'SELECT s, key, headers::text AS headers, count(*) AS n, max(id) AS last
	FROM words GROUP BY 1, 2, 3')});
wait_latest($node, 'per_word', 60, 'latin');
is(latin(q{SELECT last, encode(convert_to(s, 'UTF8'), 'hex'), encode(convert_to(key, 'UTF8'), 'hex'),
		encode(convert_to(headers, 'UTF8'), 'escape') FROM per_word ORDER BY last}), join("\n",
	'1|c3bc|6bc3a9|', '2|c3bcc39f|6b|', '3|706c61696e|6b|{"h\303\251": "\303\237"}', '9||6b|'),
	'text, keys and headers are in the encoding of the database');
is(latin('SELECT message_offset, sqlstate FROM millrace.dead_letters ORDER BY 1'),
	"3|22P05\n4|22P05\n5|22021\n6|22P05\n7|22021", 'what it cannot say is a dead letter');

# the other way
latin(q{INSERT INTO words (id, s, key, headers) VALUES
	(20, E'\u00fc', E'\u00df', jsonb_build_object(E'h\u00e9', E'\u00fc', 'yes', true, 'number', 1.50, 'nothing', NULL, 'list', '[1, 2]'::jsonb))});
is($node->safe_psql('postgres', q{SELECT s = 'ü', key = 'ß', headers = '{"hé": "ü", "yes": "true", "number": "1.50", "nothing": null, "list": "[1, 2]"}'
	FROM words WHERE position = 9}), 't|t|t', 'what it says reaches others as UTF-8');
wait_latest($node, 'per_word', 60, 'latin');
is(latin(q{SELECT s = E'\u00fc' AND key = E'\u00df' AND headers LIKE E'%\u00fc%' FROM per_word WHERE last = 20}), 't', '... and itself');

# a scan has no dead letters
my ($rc, $out, $err) = $node->psql('latin', 'SELECT id, s FROM words WHERE position >= 2 AND position < 4');
is("$rc $out", '0 3|plain', 'a scan leaves out what the database cannot say');
like($err, qr/offset 3: column "s": .* has no equivalent in encoding "LATIN1"/, '... and warns');

# headers may be anything, of what is a dead letter as well
produce($topic, 0, { key => 'k', value => 'no JSON', headers => [ euro => "\xe2\x82\xac" ] },
	{ key => 'k', value => '{"id": 30, "s": "euro"}', headers => [ "\xe2\x82\xac" => "\xc3\xbc", bytes => "\xff" ] });
wait_latest($node, 'per_word', 60, 'latin');
is(latin(q{SELECT headers FROM millrace.dead_letters ORDER BY message_offset DESC LIMIT 1}), '{"euro": "\\\\xe282ac"}',
	'headers that the database cannot say are shown as bytes in dead letters');
is(latin(q{SELECT encode(convert_to(headers, 'UTF8'), 'escape') FROM per_word WHERE last = 30}),
	'{"bytes": "\\\\\\\\xff", "\\\\\\\\xe282ac": "\\303\\274"}', 'and in views');

# names of columns and paths are text of the database, too
$node->safe_psql('latin', q{SET client_encoding = 'UTF8';
	CREATE FOREIGN TABLE "wörter" ("größe" int, inner_size int OPTIONS (path 'maß.größe'), "zähler" int[])
	SERVER kafka OPTIONS (topic '} . create_topic(topic_name('names')) . q{');
	INSERT INTO "wörter" VALUES (1, 2, '{3}')});
is(latin(q{SET client_encoding = 'UTF8'; SELECT "größe", inner_size, "zähler" FROM "wörter"}), '1|2|{3}',
	'fields are found by names that are not ASCII');

# SQL_ASCII: the server cannot convert escapes inside of arrays, which must hold up nobody
$node->safe_psql('postgres', q{CREATE DATABASE plain ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0});
create_server($node, 'plain');
$topic = create_stream($node, 'lists', 'id bigint, words text[]', database => 'plain');
produce($topic, 0, q({"id": 1, "words": ["plain"]}), q({"id": 2, "words": ["h\u00e9"]}), qq({"id": 4, "words": ["h\xc3\xa9"]}));
$node->safe_psql('plain', q{SELECT millrace.create_continuous_view('ids', 'SELECT sum(id) AS ids, max(words) AS words FROM lists')});
wait_latest($node, 'ids', 60, 'plain');
is($node->safe_psql('plain', q{SELECT ids FROM ids; SELECT message_offset FROM millrace.dead_letters}), "5\n1",
	'what the server does not support is a dead letter');

# what is cut is cut where a character ends: errors, and what a process does
$node->safe_psql('postgres', q{
	CREATE FUNCTION fails(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION USING MESSAGE = repeat('é', 400), ERRCODE = '57000'; END $$;
	SELECT millrace.create_continuous_view('failing', 'SELECT sum(fails(id)) AS n FROM words')});
wait_for($node, q{SELECT count(*) > 0 FROM millrace.workers WHERE stream = 'words'::regclass AND last_error IS NOT NULL});
is($node->safe_psql('postgres', q{SELECT max(length(convert_to(last_error, 'LATIN1'))) FROM millrace.workers WHERE stream = 'words'::regclass}),
	'255', 'a long error in UTF-8');
foreach my $i (0 .. 1)
{
	my $name = '"' . '""' x (30 + $i) . 'é' x 16 . '"';
	$node->safe_psql('postgres', qq{CREATE SCHEMA $name; CREATE FOREIGN TABLE $name.$name (id bigint) SERVER kafka OPTIONS (topic '$topic');
		SELECT millrace.create_continuous_view('named_$i', 'SELECT count(*) AS n FROM $name.$name')});
	wait_latest($node, "named_$i");
}
is($node->safe_psql('postgres', q{SELECT count(convert_to(query, 'LATIN1')) >= 3 FROM pg_stat_activity WHERE backend_type LIKE 'millrace%'}),
	't', 'a stream with a long name');

done_testing();
