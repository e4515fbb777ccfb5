//! The stored tiles of the Merkle tree.

use ledger_domain::Position;
use ledger_tlog::{Hash, Tile, Tree};
use sqlx::PgConnection;

use crate::postgres::{Error, parsed};
use crate::sql::sql;

const WRITE: &str = "INSERT INTO tiles (level, index, hashes)
    SELECT unnest($1::smallint[]), unnest($2::bigint[]), unnest($3::bytea[])
    ON CONFLICT (level, index) DO UPDATE SET hashes = excluded.hashes";

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

pub(crate) async fn write(connection: &mut PgConnection, tiles: &[Tile]) -> Result<(), Error> {
    let levels: Vec<i16> = tiles.iter().map(|tile| tile.level.into()).collect();
    let indexes: Vec<i64> = tiles.iter().map(|tile| tile.index.cast_signed()).collect();
    let hashes: Vec<Vec<u8>> = tiles
        .iter()
        .map(|tile| tile.hashes.iter().flat_map(|hash| hash.as_bytes()).copied().collect())
        .collect();
    sqlx::query(WRITE).bind(levels).bind(indexes).bind(hashes).execute(connection).await?;
    Ok(())
}
