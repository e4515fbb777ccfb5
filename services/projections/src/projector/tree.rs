//! The stored tiles of the Merkle tree.

use ledger_domain::Position;
use ledger_tlog::{Hash, Tile, Tree};
use sqlx::PgConnection;

use crate::bulk_insert::{BatchStatement, insert_row};
use crate::postgres::{Error, parsed};
use crate::sql::sql;

/// Loads the tree over the entries up to a position, ready for appends.
pub(crate) async fn load(connection: &mut PgConnection, size: Position) -> Result<Tree, Error> {
    let edge = Tree::edge(size.get());
    let levels: Vec<i16> = edge.iter().map(|tile| tile.level.into()).collect();
    let indexes: Vec<i64> = edge.iter().map(|tile| tile.index.cast_signed()).collect();
    let rows: Vec<(i16, i64, Vec<u8>)> =
        sqlx::query_as(sql!("tiles/edge")).bind(levels).bind(indexes).fetch_all(connection).await?;
    let tiles = rows.into_iter().map(|(level, index, hashes)| {
        parsed("tiles", format!("{level}/{index}"), || {
            let hashes = hashes.chunks(Hash::LENGTH).map(<[u8; 32]>::try_from);
            Ok::<_, Box<dyn std::error::Error>>(Tile {
                level: level.try_into()?,
                index: index.cast_unsigned(),
                hashes: hashes.map(|hash| hash.map(Hash::from)).collect::<Result<_, _>>()?,
            })
        })
    });
    let tiles = tiles.collect::<Result<Vec<_>, _>>()?;
    parsed("tiles", format!("of size {size}"), || Tree::restore(size.get(), tiles))
}

insert_row! {
    /// Row of `tiles`.
    pub(crate) struct TileUpsert => "tiles", "ON CONFLICT (level, index) DO UPDATE SET hashes = excluded.hashes" {
        level: i16,
        index: i64,
        hashes: Vec<u8>,
    }
}

/// Adds the tiles that a batch changes to its statement.
pub(crate) fn add_to(statement: &mut BatchStatement, tiles: &[Tile]) -> Result<(), Error> {
    let rows = tiles.iter().map(|tile| TileUpsert {
        level: tile.level.into(),
        index: tile.index.cast_signed(),
        hashes: tile.hashes.iter().flat_map(|hash| hash.as_bytes()).copied().collect(),
    });
    statement.insert(rows.collect::<Vec<TileUpsert>>())
}
